#!/usr/bin/env bash
# Puts the official RTE data into the data folder; --overwrite replaces what is there.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
"$PYTHON" prepare_data.py --task rte $EXTRA_ARGS
