#!/usr/bin/env python3
"""Fine-tune a pre-trained encoder on a task: the teacher.

    python run_fine_tune.py --experiment teacher --ptrain_ver bert-base-uncased --task sst2 --epoch 3

Loop: `fine_tune/train/fine_tune.py`. Recipes: `scripts/tune_<task>_teacher.sh`.
"""

import argparse
from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import (
    EpochConfig,
    OptimConfig,
    Pace,
    PrecisionConfig,
    RunConfig,
    SpeedConfig,
    StepConfig,
    TeacherConfig,
)

GROUPS = (RunConfig, Pace, TeacherConfig, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig)


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    parser = Parser(__doc__, GROUPS, repeats=True, name_method=lambda _: "fine_tune")
    text = "older spelling of --device_id: 0 is the CPU, 1 the first GPU"
    parser.add_argument("--num_gpu", dest="device_id", type=device_of, metavar="{0,1}", help=text)
    return parser


def device_of(num_gpu: str) -> int:
    """Turn a number of GPUs into the number of a device."""
    if num_gpu not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"must be 0 or 1, got {num_gpu!r}; --device_id takes the number of a GPU")
    return int(num_gpu) - 1


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if {"--num_gpu", "--device_id"} <= {word.partition("=")[0] for word in parser.command}:
        parser.error("--num_gpu and --device_id both name a device; give one of them")
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.run.source import read_pretrained
        from fine_tune.run.start import prepare, resolve, start
        from fine_tune.train.fine_tune import fine_tune

        run = prepare(resolve(flags), read_pretrained)
        origin = {"encoder": f"copied from {flags[TeacherConfig].ptrain_ver}", "classifier": "random"}
        session = start(run, {"": run.source.model}, origin=origin)

    with session:
        fine_tune(session, session.models[""])


if __name__ == "__main__":
    main()
