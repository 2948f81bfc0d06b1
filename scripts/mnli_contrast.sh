#!/usr/bin/env bash
# Writes the MNLI teacher's banks (16 GB for BERT-base), distils by contrast of the pooled output in two stages and by
# contrast of every layer, and scores both.
# Settings: the MNLI document: 122720 updates (10 epochs of 12272), the first 98176 of the two-stage run contrast alone.
# Expected: no figure was published. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ON="--task mnli --batch_size 32 --total_step 122720 ${DEVICE_ID:+--device_id $DEVICE_ID}"
OF="--experiment $TEACHER --task mnli --dataset train --batch_size 256 ${DEVICE_ID:+--device_id $DEVICE_ID}"

"$PYTHON" build_membank.py $OF
"$PYTHON" run_fine_tune_contrast_distill.py --teacher_exp "$TEACHER" --experiment "${EXPERIMENT}_contrast" $ON \
  --lr 5e-5 --warmup_step 8181 --neg_num 10 --two_stage --contrast_steps 98176 $RESUME $EXTRA_ARGS "$@"
"$PYTHON" build_logitsbank.py $OF
"$PYTHON" build_membank.py $OF --layer_wise
"$PYTHON" run_layerwise_contrast_distill.py --teacher_exp "$TEACHER" --experiment "${EXPERIMENT}_layerwise" $ON \
  --lr 3e-5 --warmup_step 30000 --neg_num 20 --defined_by_label $RESUME $EXTRA_ARGS "$@"
for run in contrast layerwise; do
  for split in dev_matched dev_mismatched; do
    "$PYTHON" run_fine_tune_eval.py --experiment "${EXPERIMENT}_$run" --task mnli --dataset "$split" \
      ${DEVICE_ID:+--device_id "$DEVICE_ID"}
  done
done
