#!/usr/bin/env bash
# Distils the RTE teacher into a student of half its layers by LAD, evaluates it, predicts the test split.
# Settings: the development documents: 1155 updates with 346 of warm-up (15 epochs of 77), there for 4 layers; earlier
# 6-layer commands have the same weights and rates. The released scripts differ in --lr 7e-4 --epoch 10
# --warmup_rate 0.1 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 1000. Not taken: they belong to the
# other teacher (see tune_rte_teacher.sh), and 7e-4 was chosen for a student whose embeddings start at random
# (--no_init_embeddings).
# Expected: no figure was published that we could read. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_lad_distil.py --teacher_exp "$TEACHER" --experiment "$EXPERIMENT" --task rte \
  --total_step 1155 --warmup_step 346 --lr 3e-4 --gate_lr 3e-5 --ckpt_step 100 \
  --softmax_temp 10 --soft_weight 0.7 --hard_weight 0.3 --hidden_mse_weight 500 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$EXPERIMENT" --model bert --task rte --dataset dev \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}

if have RTE/test.tsv; then
  "$PYTHON" generate_test_prediction.py --experiment "$EXPERIMENT" --model bert --task rte --dataset test \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
fi
