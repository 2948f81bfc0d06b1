#!/usr/bin/env bash
# Puts the official MNLI data into the data folder; --overwrite replaces what is there.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
"$PYTHON" prepare_data.py --task mnli $EXTRA_ARGS
