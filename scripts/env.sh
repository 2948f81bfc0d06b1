# Sourced by the scripts beside it: goes to the project root and sets what they share.
#   ENCODER      pre-trained encoder of the teachers, a hub name or a folder
#   DEVICE_ID    number of the GPU, -1 for the CPU; unset: a GPU if there is one
#   TEACHER      experiment name of the teacher
#   EXPERIMENT   experiment name of the student
#   EXTRA_ARGS   flags added last to the training command, so that they win; the script's own arguments follow them
set -euf -o pipefail
. "$(dirname "${BASH_SOURCE[0]}")/root.sh"

ENVIRONMENT="${VIRTUAL_ENV:-${CONDA_PREFIX:-$PWD/.venv}}"
PYTHON="$ENVIRONMENT/bin/python"
[ -x "$PYTHON" ] || PYTHON=python3

ENCODER="${ENCODER:-bert-base-uncased}"
TEACHER="${TEACHER:-teacher_base}"
EXPERIMENT="${EXPERIMENT:-LAD}"
EXTRA_ARGS="${EXTRA_ARGS:-}"

RESUME=--resume # started again, a script resumes its run, unless it is told to replace it
case " $EXTRA_ARGS $* " in *" --overwrite "*) RESUME= ;; esac

# Tells whether a data file is there, as in: have SST-2/test.tsv
have() {
  [ -f "${DATA_DIR:-data}/fine_tune/$1" ] || { echo "no $1 in the data folder, so no predictions of it"; return 1; }
}
