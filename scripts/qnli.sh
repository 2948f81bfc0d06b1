#!/usr/bin/env bash
# Distils the QNLI teacher into a student of half its layers by LAD, evaluates it, predicts the test split.
# Settings: as published; the development documents and the released scripts agree.
# 13096 updates with 1309 of warm-up (4 epochs of 3274).
# Expected on dev: 90.4 with 6 of BERT-base's 12 layers (the authors' record). Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_lad_distil.py --teacher_exp "$TEACHER" --experiment "$EXPERIMENT" --task qnli \
  --total_step 13096 --warmup_step 1309 --lr 1e-4 --gate_lr 1e-6 \
  --softmax_temp 10 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 1000 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task qnli --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

if have QNLI/test.tsv; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task qnli --dataset test \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
