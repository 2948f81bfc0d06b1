#!/usr/bin/env python3
"""Make the Korean data, word vectors and encoder of the GloVe document from rows of film reviews.

    python prepare_korean.py --source clova_sentiments.zip

What each is: `fine_tune/glove/korean.py`. What is there is left as it is.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.glove.korean import KoreanConfig, prepare

HERE = Path(__file__).resolve().parent


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__, (KoreanConfig,))
    parser.add_argument("--source", default="", help="archive of the rows, a file or an address")
    text = "folder that gets data/ and embeddings/ (default: that of this script)"
    parser.add_argument("--folder", type=Path, default=HERE, help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Make everything and say what is there."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        for path, made in prepare(args.source, args.folder, parser.flags(args)[KoreanConfig]).items():
            print(f"{path}: {'made' if made else 'already there'}")


if __name__ == "__main__":
    main()
