#!/usr/bin/env python3
"""Fine-tune a pre-trained encoder on a task: the teacher.

    python run_fine_tune.py --experiment teacher --ptrain_ver bert-base-uncased --task sst2 --epoch 3

Loop: `fine_tune/train/fine_tune.py`. Recipes: `scripts/tune_<task>_teacher.sh`.
"""

from collections.abc import Sequence

from fine_tune.flags.older import add_num_gpu, refuse_both
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
    add_num_gpu(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    refuse_both(parser)
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
