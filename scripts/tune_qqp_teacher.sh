#!/usr/bin/env bash
# Fine-tunes the QQP teacher and evaluates its checkpoints.
# Settings: as published; the development documents and the released scripts agree.
# 34110 updates with 10233 of warm-up (3 epochs of 11370, warm-up rate 0.3).
# Expected on dev: 91.0 with BERT-base (the authors' record). Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task qqp \
  --lr 2e-5 --total_step 34110 --warmup_step 10233 --ckpt_step 11370 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task qqp --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
