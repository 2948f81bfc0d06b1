"""Puts the official data of a task into the data folder.

Usage:
    python prepare_data.py --task sst2
    GLUE_MIRROR=/path/to/archives python prepare_data.py --task sst2 --overwrite
"""

import argparse
import sys

from fine_tune.archive import SOURCES, prepare
from fine_tune.task import task_named


def build_parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = argparse.ArgumentParser(
        description="Download the official data of a task, check it, and put it into the data folder.",
        epilog="GLUE_MIRROR, a folder or an address, takes the place of the official addresses.",
    )
    parser.add_argument("--task", required=True, help=f"one of {', '.join(SOURCES)}")
    parser.add_argument("--overwrite", action="store_true", help="replace data files that are there")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        task = task_named(args.task)
        source, counts = prepare(task, args.overwrite)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for split in task.splits:
        found = split in counts
        print(f"{task.file(split)}: {counts[split]} rows ({source})" if found else f"{split}: not in the data")
    return 0


if __name__ == "__main__":
    sys.exit(main())
