#!/usr/bin/env bash
# Distils the MNLI teacher into a student of half its layers by LAD, evaluates it, predicts the test split.
# Settings: as published; the development documents and the released scripts agree.
# 49088 updates with 4908 of warm-up (4 epochs of 12272).
# Expected: no figure was published that we could read. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_lad_distil.py --teacher_exp "$TEACHER" --experiment "$EXPERIMENT" --task mnli \
  --total_step 49088 --warmup_step 4908 --lr 1e-4 --gate_lr 5e-7 \
  --softmax_temp 10 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 500 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task mnli --dataset dev_matched \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task mnli --dataset dev_mismatched \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

if have MNLI/test_matched.tsv; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task mnli --dataset test_matched \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
if have MNLI/test_mismatched.tsv; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task mnli --dataset test_mismatched \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
