#!/usr/bin/env python3
"""Write the predictions of one checkpoint on a test split, in the form that the benchmark's server takes.

    python generate_test_prediction.py --experiment LAD --task sst2 --dataset test --ckpt 6000

Writes GLUE's file (`SST-2.tsv`, ..) and `prediction_<split>-<step>.tsv` with the logits into the run's folder.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import EvalConfig, PrecisionConfig


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    parser = Parser(__doc__, (EvalConfig, PrecisionConfig))
    parser.set_defaults(dataset="test")
    parser.add_argument("--ckpt", type=int, help="checkpoint to use (default: the best scored, else the last)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Predict and write."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.run.predictions import write_predictions
        from fine_tune.run.process import prepare_reading

        flags, device = prepare_reading(flags)
        write_predictions(flags, flags[EvalConfig].dataset, device, args.ckpt)


if __name__ == "__main__":
    main()
