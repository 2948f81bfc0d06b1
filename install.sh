#!/usr/bin/env bash
# Installs the requirements into the current Python environment and makes the data folders.
. "$(dirname "${BASH_SOURCE[0]}")/scripts/env.sh"

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Python 3.11 or later is needed, but $PYTHON is $("$PYTHON" --version 2>&1)" >&2
  exit 1
fi

# PyTorch is by far the largest package: first and by itself, so that trouble with it shows at once.
"$PYTHON" -m pip install "$(head -n 1 requirements.txt)"
"$PYTHON" -m pip install -r requirements.txt
mkdir -p "${DATA_DIR:-data}/fine_tune" "${DATA_DIR:-data}/fine_tune_experiment"
