#!/usr/bin/env bash
# Distils the QNLI teacher into a student of half its layers by LAD, evaluates it, predicts the test split.
# Settings: as published; the development documents and the released scripts agree.
# Published in updates: 13096 with 1309 of warm-up (4 epochs of 3274).
# The last update is a checkpoint, too.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_lad_distil_epoch.py --teacher_exp "$TEACHER" --experiment "$EXPERIMENT" --task qnli \
  --epoch 4 --warmup_rate 0.1 --lr 1e-4 --gate_lr 1e-6 \
  --softmax_temp 10 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 1000 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task qnli --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

if have QNLI/test.tsv; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task qnli --dataset test \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
