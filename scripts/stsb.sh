#!/usr/bin/env bash
# Distils the STS-B teacher into a student of half its layers by LAD, evaluates it, predicts the test split.
# Settings: ours, not tuned; none were published. Those of MRPC, the published task next in size and in kind, at the
# larger tasks' rates. The task is regression: soft and hard loss are squared errors, without a temperature.
# Expected: not known for these settings. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_lad_distil_epoch.py --teacher_exp "$TEACHER" --experiment "$EXPERIMENT" --task stsb \
  --epoch 20 --warmup_rate 0.3 --lr 1e-4 --gate_lr 1e-6 --ckpt_step 300 \
  --soft_weight 0.7 --hard_weight 0.3 --hidden_mse_weight 500 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task stsb --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

if have STS-B/test.tsv; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task stsb --dataset test \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
