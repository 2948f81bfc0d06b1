# Sourced by quickstart.sh and test.sh: activates .venv, made first where there is none, unless an environment is active.
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or later is needed as python3, found: $(python3 --version 2>&1)" >&2
    exit 2
  fi
  if [ ! -x .venv/bin/pip ] && ! python3 -m venv .venv; then
    echo "python3 -m venv failed; on Debian and Ubuntu it needs: sudo apt-get install python3-venv" >&2
    exit 2
  fi
  . .venv/bin/activate
fi
