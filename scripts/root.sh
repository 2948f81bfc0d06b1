# Sourced by the scripts beside it: goes to the project root, after relative paths of the caller's have become absolute.
absolute() { # VARIABLE
  case "${!1:-}" in '' | /* | '~'* | *://*) ;; *) export "$1=$PWD/${!1}" ;; esac
}
absolute DATA_DIR
absolute GLUE_MIRROR
if [ -d "${ENCODER:-}" ]; then absolute ENCODER; fi # else it is a hub name
CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")/.."
