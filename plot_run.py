#!/usr/bin/env python3
"""Draw the losses of training runs, and the gates of those that have gates.

    python plot_run.py data/fine_tune_experiment/LAD_bert_sst2 [data/fine_tune_experiment/no_teacher_bert_sst2 ..]

Writes `losses.png` (all runs together) and `gates.png` into the folder of the first run.
"""

from collections.abc import Sequence
from pathlib import Path

from fine_tune.flag import Parser, usage_errors


def build_parser() -> Parser:
    """Declare the runs."""
    parser = Parser(__doc__)
    parser.add_argument("run", nargs="+", type=Path, help="folder of a run")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the logs and draw."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        from fine_tune.plot import gate_names, plot_gates, plot_losses, read_metrics

        home = args.run[0]
        metrics = {run.resolve().name: read_metrics(run) for run in args.run}
        plot_losses(metrics, home / "losses.png")
        print(home / "losses.png")
        name, first = next(iter(metrics.items()))
        if gate_names(first):
            plot_gates(first, name, home / "gates.png")
            print(home / "gates.png")


if __name__ == "__main__":
    main()
