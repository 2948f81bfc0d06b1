#!/usr/bin/env bash
# Compares what the BoolQ and MNLI documents distil by: no teacher, KD, PKD, LAD, offline KD, a chain of assistants,
# contrast (one stage, two), layer-wise contrast, and matching in stages without and with a contrast of labels. Three
# seeds, equal updates; half of them in the first of two stages. One thread, two tasks side by side, as
#   TASK=boolq STEPS=250 BATCH=16 bash scripts/compare_documents.sh & TASK=mnli bash scripts/compare_documents.sh
# Students of 3 layers for a teacher of 6 of the width 384 (SIZES). Started again, it makes what is missing.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
TASK="${TASK:-mnli}" STEPS="${STEPS:-400}" BATCH="${BATCH:-32}" HALF=$((${STEPS:-400} / 2)) SET=""
SIZES="${SIZES:-d_model=384 d_ff=1536 num_attention_heads=12 max_seq_len=128} init_exp=$TEACHER"

for row in offline chain; do
  for size in $SIZES num_hidden_layers=3 init_start=2 init_step=2; do SET="$SET --set $row.$size"; done
done
for size in $SIZES num_hidden_layers=4 init_end=4; do SET="$SET --set TA.$size"; done
for row in kd contrast two_stage; do SET="$SET --set $row.teacher_cache=logits"; done
for row in stages scl; do SET="$SET --set $row.cls_steps=$HALF --set $row.mu=33.3"; done

OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "$PYTHON" run_suite.py --suite "${TASK}_documents" --task "$TASK" \
  --teacher_exp "$TEACHER" --seeds 1,2,3 --total_step "$STEPS" ${DEVICE_ID:+--device_id "$DEVICE_ID"} \
  --methods fine_tune,kd,pkd=pkd-hidden,lad,offline,TA=offline,chain=offline,contrast,two_stage=contrast_two_stage,layerwise=layerwise_contrast,stages=match,scl=match \
  --set lr=1e-4 --set batch_size="$BATCH" --set chain.after=TA --set two_stage.contrast_steps="$HALF" \
  --set scl.ce_weight=0.5 $SET "$@"
