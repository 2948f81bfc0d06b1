#!/usr/bin/env bash
# From nothing to a distilled student in a few minutes on a CPU, with a generated corpus and an encoder that comes as a
# Python package: install, corpus, teacher, LAD student, the same student without a teacher, table, pictures.
# Run it again at any time: finished steps are reused, an interrupted one is resumed. With --overwrite everything starts
# anew: SEED=2 bash scripts/quickstart.sh --overwrite
set -euo pipefail
log=$(mktemp)
. "$(dirname "${BASH_SOURCE[0]}")/root.sh"

fail() { echo "quickstart: $*" >&2; exit 2; }
trap 'kill $(jobs -p) 2>/dev/null || true; rm -f "$log"' EXIT
trap 'fail "stopped at line $LINENO; the message above says why. Run it again to go on: finished steps are kept."' ERR

# 1. A virtual environment (the active one, else .venv) with pinned requirements and the encoder.
. scripts/environment.sh
bash install.sh
ENCODER=$(bash scripts/install_encoder.sh)
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true
runs=$(python -c 'from fine_tune.path import data_dir; print(data_dir() / "fine_tune_experiment")')
amp=$(python -c '
from fine_tune.hardware.device import resolve_device
from fine_tune.hardware.precision import has_bfloat16
print("--amp" if has_bfloat16(resolve_device(None)) else "")')
# No row is seen twice. Small batches and no dropout let the student without a teacher learn in so few updates, too.
common=(--task sample --seed "${SEED:-1}" --total_step 400 --batch_size 8 --dropout 0 --lr 1e-4 --log_step 25
  "${1:---resume}" $amp)

# 2. The corpus, and a teacher fine-tuned on it.
python generate_sample_corpus.py
python run_fine_tune.py "${common[@]}" --experiment teacher --ptrain_ver "$ENCODER"

# 3. A student with half the layers, by LAD; and the same student, with the same start, rate and length, without a teacher.
#    They run side by side, with half of the cores each; what the second one says is shown once both are through.
half=${OMP_NUM_THREADS:-$((($(getconf _NPROCESSORS_ONLN) + 1) / 2))}
student=("${common[@]}" --teacher_exp teacher --init_from pretrained)
OMP_NUM_THREADS=$half python run_student_fine_tune.py "${student[@]}" --experiment no_teacher >"$log" 2>&1 &
OMP_NUM_THREADS=$half python run_lad_distil.py "${student[@]}" --experiment LAD \
  --softmax_temp 4 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 10
wait $! || { cat "$log"; false; }
cat "$log"

# 4. One table, and pictures.
python compare_runs.py --task sample --experiment teacher LAD no_teacher --dataset dev --sentences 100
printf '\npictures, each with its numbers beside it:\n'
python plot_run.py "$runs/LAD_bert_sample" "$runs/no_teacher_bert_sample"
