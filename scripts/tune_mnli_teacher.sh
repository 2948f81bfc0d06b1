#!/usr/bin/env bash
# Fine-tunes the MNLI teacher and evaluates its checkpoints.
# Settings: as published; the development documents and the released scripts agree.
# 36816 updates with 10000 of warm-up (3 epochs of 12272, warm-up rate 0.2716).
# Expected on dev: 84.6 / 85.0 matched / mismatched with BERT-base (the authors' record). Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task mnli \
  --lr 3e-5 --total_step 36816 --warmup_step 10000 --ckpt_step 3000 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task mnli --dataset dev_matched \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task mnli --dataset dev_mismatched \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
