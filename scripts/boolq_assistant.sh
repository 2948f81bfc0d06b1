#!/usr/bin/env bash
# Distils the BoolQ teacher offline into an assistant, and that into a student, and evaluates both.
# Settings: those of the BoolQ document for a teacher of 24 layers (12, then 6 layers of width 1024, 10 epochs of 294.6
# updates); students of another width: SIZES="--d_model 384 --d_ff 1536 --num_attention_heads 12".
#   LAYERS       layers of the assistant, and of each student after it (default: "12 6")
#   SIZES        sizes of all of them
# Expected on val: 65.9 for the assistant, 65.7 for a student, as published for BERT-large. Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
SIZES="${SIZES:---d_model 1024 --d_ff 4096 --num_attention_heads 16}"

RUN="$TEACHER"
for layers in ${LAYERS:-12 6}; do
  "$PYTHON" run_fine_tune_gen_logits.py --experiment "$RUN" --task boolq --dataset train \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"}
  "$PYTHON" run_fine_tune_distill.py --dataset "${RUN}_bert_boolq" --experiment "${EXPERIMENT}_$layers" --task boolq \
    --num_hidden_layers "$layers" $SIZES --max_seq_len 256 --batch_size 32 --lr 1e-5 \
    --total_step 2946 --warmup_step 295 --ckpt_step 200 \
    ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"
  RUN="${EXPERIMENT}_$layers"
  "$PYTHON" run_fine_tune_eval.py --experiment "$RUN" --task boolq --dataset val ${DEVICE_ID:+--device_id "$DEVICE_ID"}
done
