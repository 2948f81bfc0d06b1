#!/usr/bin/env python3
"""Put the official data of a task into the data folder: downloaded, checked, then moved into place.

    python prepare_data.py --task sst2
    GLUE_MIRROR=/path/to/archives python prepare_data.py --task sst2 --overwrite

`GLUE_MIRROR`, a folder or an address, takes the place of the official addresses.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.tasks.download import SOURCES, prepare
from fine_tune.tasks.named import task_named


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--task", required=True, help=f"one of {', '.join(SOURCES)}")
    parser.add_argument("--overwrite", action="store_true", help="replace data files that are there")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare one task and say what is there."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        task = task_named(args.task)
        source, counts = prepare(task, args.overwrite)
    for split in task.splits:
        found = split in counts
        print(f"{task.file(split)}: {counts[split]} rows ({source})" if found else f"{split}: not in the data")


if __name__ == "__main__":
    main()
