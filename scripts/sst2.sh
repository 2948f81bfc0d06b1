#!/usr/bin/env bash
# Distils the SST-2 teacher into a student of half its layers by LAD, evaluates it, predicts the test split.
# Settings: as published; the development documents and the released scripts agree.
# 42100 updates with 12630 of warm-up (20 epochs of 2105).
# Expected: no figure was published that we could read. Measured: 89.6, 99.4 % of the teacher, with 3 of 6 layers of the
# packaged encoder, 3 epochs, 9 minutes on 2 cores; some 60 minutes for the 20 epochs here.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_lad_distil.py --teacher_exp "$TEACHER" --experiment "$EXPERIMENT" --task sst2 \
  --total_step 42100 --warmup_step 12630 --lr 1e-4 --gate_lr 1e-6 --ckpt_step 2000 \
  --softmax_temp 20 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 1000 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task sst2 --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

if have SST-2/test.tsv; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task sst2 --dataset test \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
