#!/usr/bin/env python3
"""Train the same student on gold labels alone: the baseline that shows what a teacher is worth.

    python run_student_fine_tune.py --teacher_exp teacher --experiment no_teacher --task sst2 --epoch 3

The student has the sizes and the start that `run_lad_distil.py` would give it. Loop: `fine_tune/train/fine_tune.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import STUDENT_GROUPS

GROUPS = STUDENT_GROUPS


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
        from fine_tune.train.fine_tune import fine_tune

        job = Job(flags, parser.argv)
        student = job.build_student(matched=False)
        updater = job.updater()
        log = job.start("fine_tune")

    with log:
        fine_tune(wrap(student), updater, job.updates(), job.devices.student, log)
    job.finish()


if __name__ == "__main__":
    main()
