#!/usr/bin/env bash
# Fine-tunes the BoolQ teacher and evaluates its checkpoints.
# Settings: the development documents, BERT-base: 5892 updates of 16 with 590 of warm-up (10 epochs of 589, warm-up
# rate 0.1). The released scripts have no BoolQ. A checkpoint per epoch here, not every 100 updates. Their best teacher:
#   ENCODER=bert-large-uncased EXTRA_ARGS="--batch_size 32 --accum_step 16 --max_seq_len 256 --amp"
# Expected on val: 73.1 with BERT-base (the authors' record). Not run here in full.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_fine_tune.py --experiment "$TEACHER" --model bert --ptrain_ver "$ENCODER" --task boolq \
  --lr 1e-5 --total_step 5892 --warmup_step 590 --batch_size 16 --max_seq_len 200 --ckpt_step 590 \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $RESUME $EXTRA_ARGS "$@"

"$PYTHON" run_fine_tune_eval.py --experiment "$TEACHER" --model bert --task boolq --dataset val \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"}
