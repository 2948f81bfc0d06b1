#!/usr/bin/env bash
# Installs what the tests need (into the active virtual environment, else into .venv) and runs them.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/root.sh"
. scripts/environment.sh
bash install.sh
python -m pip install --quiet -r requirements-dev.txt
bash scripts/prepare_glove.sh --packages || echo "tests of spaCy and kiwi are skipped" >&2
HF_HUB_OFFLINE=1 python -m pytest -n 2 "$@"
