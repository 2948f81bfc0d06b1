#!/usr/bin/env bash
# Distils the CoLA teacher into a student of half its layers by LAD, evaluates it, predicts the test split.
# Settings: ours, not tuned; none were published. Those of SST-2, the published task of single sentences.
# Expected: not known for these settings. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_lad_distil_epoch.py --teacher_exp "$TEACHER" --experiment "$EXPERIMENT" --task cola \
  --epoch 20 --warmup_rate 0.3 --lr 1e-4 --gate_lr 1e-6 --ckpt_step 500 \
  --softmax_temp 20 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 1000 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task cola --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

if have CoLA/test.tsv; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task cola --dataset test \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
