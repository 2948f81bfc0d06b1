# Sourced by quickstart.sh and test.sh: activates .venv, made first where there is none, unless an environment is active.
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
  if [ ! -x .venv/bin/pip ]; then
    for python in python3 python3.13 python3.12 python3.11; do
      if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
      python=""
    done
    if [ -z "$python" ]; then
      echo "Python 3.11 or later is needed; python3 is $(python3 --version 2>&1)" >&2
      exit 2
    fi
    if ! "$python" -m venv .venv; then
      echo "$python -m venv failed; on Debian and Ubuntu it needs: sudo apt-get install python3-venv" >&2
      exit 2
    fi
  fi
  . .venv/bin/activate
fi
