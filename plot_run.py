#!/usr/bin/env python3
"""Draw what happened in training runs; each picture is a PNG with a CSV of its numbers beside it.

    python plot_run.py data/fine_tune_experiment/LAD_bert_sst2 [data/fine_tune_experiment/no_teacher_bert_sst2 ..]

Written into the folder of the first run, those that the runs have data for:
    losses      losses and learning rates over the updates
    gates       mean opening of each gate (LAD and its siblings)
    shares      share of every teacher layer in every student layer's target (LAD and its siblings)
    attention   the same for the attention of ALP-KD
    scores      metrics of every checkpoint that run_fine_tune_eval.py has scored
    spread      how much the targets of different tokens differ
"""

from collections.abc import Sequence
from pathlib import Path

from fine_tune.flags.parser import Parser, usage_errors


def build_parser() -> Parser:
    """Declare the runs."""
    parser = Parser(__doc__)
    parser.add_argument("run", nargs="+", type=Path, help="folder of a run")
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: that of the first run)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the runs and draw."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        from fine_tune.plot.pictures import draw
        from fine_tune.run.history import read_runs

        written, left = draw(read_runs(args.run), args.out or args.run[0])
        for file in written:
            print(file)
        for file in left:
            print(f"{file} is of an earlier call: these runs have no data for it")


if __name__ == "__main__":
    main()
