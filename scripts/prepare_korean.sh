#!/usr/bin/env bash
# Makes the Korean data, word vectors and encoder of the GloVe document; arguments are flags of prepare_korean.py.
#   KOREAN_ZIP   the rows, a file or an address; default: clova_sentiments.zip of GLUE_MIRROR
#   GLOVE_DIR    folder that gets data/ and embeddings/; default: glove_student
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ROOT="$PWD"
cd "$OLDPWD" # relative paths are the caller's

SOURCE="${KOREAN_ZIP:-${GLUE_MIRROR:+$GLUE_MIRROR/clova_sentiments.zip}}"
"$PYTHON" "$ROOT/glove_student/prepare_korean.py" --source "$SOURCE" --folder "${GLOVE_DIR:-$ROOT/glove_student}" "$@"
