#!/usr/bin/env bash
# Fine-tunes the QNLI teacher and evaluates its checkpoints.
# Settings: as published; the development documents and the released scripts agree.
# 9822 updates with 3274 of warm-up (3 epochs of 3274, the first of them warm-up).
# Expected on dev: 91.4 with BERT-base (the authors' record). Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task qnli \
  --lr 3e-5 --total_step 9822 --warmup_step 3274 --accum_step 2 --ckpt_step 1000 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task qnli --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
