#!/usr/bin/env bash
# Fine-tunes the SST-2 teacher and evaluates its checkpoints.
# Settings: as published; the development documents and the released scripts agree.
# Published in updates: 6315 with 1894 of warm-up (3 epochs of 2105, warm-up rate 0.3).
# The last update is a checkpoint, too.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task sst2 \
  --lr 2e-5 --epoch 3 --warmup_rate 0.3 --ckpt_step 2105 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task sst2 --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
