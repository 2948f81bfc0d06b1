#!/usr/bin/env bash
# Fine-tunes the STS-B teacher and evaluates its checkpoints.
# Settings: ours, not tuned; none were published. Those of MRPC, the published task next in size and in kind.
# The task is regression: one output, squared error.
# Expected: not known for these settings. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task stsb \
  --lr 2e-5 --epoch 5 --warmup_rate 0.3 --ckpt_step 180 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task stsb --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
