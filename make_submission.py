#!/usr/bin/env python3
"""Zip the test predictions of runs as GLUE's server takes them, or check a zip before it is sent.

    python make_submission.py --experiment LAD --tasks sst2,qnli,mnli --fill --out submission.zip
    python make_submission.py --check submission.zip

The predictions are those that `generate_test_prediction.py` or `run_fine_tune_eval.py --do_predict` wrote into the
folders of the runs. GLUE wants eleven files; `--fill` writes the missing ones with a constant prediction, whose scores
stand for no model. What is written has passed the same check: names, header, every index, every label, the number of
rows, the encoding. A fault is named with its file and line, and the exit code is 2.
"""

from collections.abc import Sequence
from pathlib import Path

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.path import ARCHITECTURES
from fine_tune.scores.submission import ROWS, check_file, collect, write_submission


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--experiment", help="name of the runs, one for every task")
    parser.add_argument("--tasks", help="tasks of the runs, with commas between")
    parser.add_argument(
        "--model", choices=ARCHITECTURES, help="architecture of the runs (default: found by their folders' names)"
    )
    parser.add_argument("--fill", action="store_true", help="write a constant prediction where there is no run")
    parser.add_argument("--out", type=Path, help="the zip to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a zip that is there")
    parser.add_argument("--check", type=Path, metavar="ZIP", help="check this zip, write nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Check, or collect and write."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        to_write = (args.experiment, args.tasks, args.out)
        if args.check and any((*to_write, args.model, args.fill, args.overwrite)):
            raise ValueError("--check reads a zip and writes none; it takes no other flag")
        if not args.check and None in to_write:
            raise ValueError("--experiment, --tasks and --out are needed to write a zip; or --check ZIP to look at one")
        if args.check:
            check_file(args.check)
            print(f"{args.check}: as GLUE takes it, {len(ROWS)} files, {sum(ROWS.values()):,} rows")
            return
        found = collect(args.experiment, args.model, args.tasks.split(","), args.fill)
        write_submission(args.out, found.tables, args.overwrite)
    for name, origin in found.origin.items():
        print(f"{name:<12} {ROWS[name]:>7,} rows  {origin}")
    print(f"{args.out}: as GLUE takes it")


if __name__ == "__main__":
    main()
