#!/usr/bin/env bash
# Fine-tunes the RTE teacher and evaluates its checkpoints.
# Settings: the development documents: 231 updates with 69 of warm-up (3 epochs of 77, warm-up rate 0.3).
# The released scripts train 385 updates with 115 of warm-up at 7e-5 and then distil checkpoint 231. Not taken: the
# rate is above BERT's usual 2e-5 to 5e-5, and a schedule that is left at 60 % is harder to compare. To get it:
#   EXTRA_ARGS="--lr 7e-5 --total_step 385 --warmup_step 115"
# Expected on dev: 64 to 73 with BERT-base, seeds differ by points. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task rte \
  --lr 2e-5 --total_step 231 --warmup_step 69 --ckpt_step 77 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task rte --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
