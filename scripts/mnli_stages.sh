#!/usr/bin/env bash
# Distils the MNLI teacher in three runs, each from the one before: hidden states, a contrast of labels, logits; scores
# each, and draws [CLS] before and after the contrast.
# Settings: the MNLI document: 24544 updates each (2 epochs of 12272) with 2454 of warm-up.
# Expected: no figure was published. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ON="--task mnli --batch_size 32 --total_step 24544 --warmup_step 2454 ${DEVICE_ID:+--device_id $DEVICE_ID}"

"$PYTHON" run_fine_tune_distill_mgpu.py --teacher_exp "$TEACHER" --experiment "${EXPERIMENT}_hidden" $ON --lr 5e-5 \
  --use_hidden_loss --mu 100 --ckpt_step 24544 $RESUME $EXTRA_ARGS "$@"
"$PYTHON" train_scl_from_ckpt.py --src_experiment "${EXPERIMENT}_hidden" --experiment "${EXPERIMENT}_scl" $ON --lr 5e-5 \
  --scl_temp 0.1 --ckpt_step 2000 $RESUME $EXTRA_ARGS "$@"
"$PYTHON" train_kd_from_ckpt.py --src_experiment "${EXPERIMENT}_scl" --experiment "${EXPERIMENT}_kd" \
  --teacher_exp "$TEACHER" $ON --lr 1e-5 --softmax_temp 10 --soft_weight 0.5 --ckpt_step 1000 $RESUME $EXTRA_ARGS "$@"
for split in dev_matched dev_mismatched; do
  "$PYTHON" run_fine_tune_eval.py --experiment "${EXPERIMENT}_kd" --task mnli --dataset "$split" \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
done
"$PYTHON" plot_CLS_embedding.py --experiment "${EXPERIMENT}_scl" --task mnli --dataset dev_matched \
  --beside "${EXPERIMENT}_hidden" ${DEVICE_ID:+--device_id "$DEVICE_ID"}
