#!/usr/bin/env python3
"""Train the same student on gold labels alone: the baseline that shows what a teacher is worth.

    python run_student_fine_tune.py --teacher_exp teacher --experiment no_teacher --task sst2 --epoch 3

The student has the sizes and the start that `run_lad_distil.py` would give it. Loop: `fine_tune/train/fine_tune.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_student_fine_tune", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.run.start import build_student, prepare, resolve, start
        from fine_tune.train.fine_tune import fine_tune

        run = prepare(resolve(flags))
        student, origin = build_student(run, matched=False)
        session = start(run, {"": student}, origin=origin)

    with session:
        fine_tune(session, session.models[""])


if __name__ == "__main__":
    main()
