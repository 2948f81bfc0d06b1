#!/usr/bin/env bash
# Fine-tunes the CoLA teacher and evaluates its checkpoints.
# Settings: ours, not tuned; none were published. Those of MRPC, the published task next in size.
# Expected: not known for these settings. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task cola \
  --lr 2e-5 --epoch 5 --warmup_rate 0.3 --ckpt_step 268 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task cola --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
