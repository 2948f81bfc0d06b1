#!/usr/bin/env bash
# Distils the BoolQ teacher into a student of half its layers by LAD, evaluates it, predicts the test split.
# Settings: ours, not tuned; for LAD none were published. Those of QNLI, the published task of questions on a passage,
# over the 10 epochs of the BoolQ documents.
# Expected: not known for these settings. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_lad_distil_epoch.py --teacher_exp "$TEACHER" --experiment "$EXPERIMENT" --task boolq \
  --epoch 10 --warmup_rate 0.1 --lr 1e-4 --gate_lr 1e-6 --ckpt_step 250 \
  --softmax_temp 10 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 1000 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task boolq --dataset val \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

if have BoolQ/test.jsonl; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task boolq --dataset test \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
