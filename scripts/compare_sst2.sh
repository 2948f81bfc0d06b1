#!/usr/bin/env bash
# Compares the methods on SST-2: one epoch, three seeds, students of half the teacher's layers; runs what is missing.
# Settings: those of the section "Which method is better?" in RESULTS.md, found with a teacher of 6 layers and width 384.
# SUITE names the comparison (default: sst2); further flags of run_suite.py follow, --num_hidden_layers by --set.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" run_suite.py --suite "${SUITE:-sst2}" --task sst2 --teacher_exp "$TEACHER" --seeds 1,2,3 --epoch 1 \
  --methods ft,kd,pkd,pkd-skip,pkd-last,alp-kd,alp-kd-hidden,alp-kd-hidden-v2,lad-no,lad-released=lad,lad-open=lad,lad-scaled=lad \
  --set softmax_temp=4 --set soft_weight=0.5 --set hard_weight=0.5 --set hidden_mse_weight=10 \
  --set pkd-skip.hidden_mse_weight=100 --set pkd-last.hidden_mse_weight=100 \
  --set lad-no.gate_init_bias=0 --set lad-released.gate_init_bias=0 --set lad-open.gate_init_bias=3 \
  --set lad-scaled.gate_init_bias=3 --set gate_norm_init=one --set lad-scaled.gate_norm_init=teacher \
  ${DEVICE_ID:+--device_id "$DEVICE_ID"} $EXTRA_ARGS "$@"
