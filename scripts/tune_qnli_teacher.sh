#!/usr/bin/env bash
# Fine-tunes the QNLI teacher and evaluates its checkpoints.
# Settings: as published; the development documents and the released scripts agree.
# Published in updates: 9822 with 3274 of warm-up (3 epochs of 3274, the first of them warm-up).
# The last update is a checkpoint, too.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task qnli \
  --lr 3e-5 --epoch 3 --warmup_rate 0.3333 --accum_step 2 --ckpt_step 1000 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task qnli --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
