#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by its logits alone: the baseline of all distillation.

    python run_kd_distil.py --teacher_exp teacher --experiment KD --task sst2 --epoch 3

Loop: `fine_tune/train/kd.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig
from fine_tune.train.methods import LogitConfig

GROUPS = (*STUDENT_GROUPS, LogitConfig, OutputsConfig)


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    parser = Parser(__doc__, repeats=True)
    add_groups(parser, GROUPS)
    parser.set_defaults(lr=1e-4)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Wire and train."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = Flags(GROUPS, args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.hardware.distributed import wrap
        from fine_tune.run.job import Job
        from fine_tune.train.kd import TEACHER_NEEDS, train_kd

        job = Job(flags, parser.argv)
        student = job.build_student(matched=False)
        teacher = job.open_teacher(TEACHER_NEEDS)
        updater = job.updater()
        log = job.start("kd")

    with log:
        train_kd(flags[LogitConfig], (teacher, wrap(student)), updater, job.updates(teacher), job.devices, log)
    job.finish()


if __name__ == "__main__":
    main()
