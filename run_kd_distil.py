#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by its logits alone: the baseline of all distillation.

    python run_kd_distil.py --teacher_exp teacher --experiment KD --task sst2 --epoch 3

Loop: `fine_tune/train/kd.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import METHODS, LogitConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_kd_distil", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.teacher.protocol import Needs
        from fine_tune.train.kd import train_kd

        run = prepare(resolve(flags))
        student, origin = build_student(run, matched=False)
        teacher = open_teacher(run, Needs(METHODS[flags.method].needs))
        session = start(run, {"": student}, teacher, origin=origin)

    with session:
        train_kd(session, teacher, session.models[""], flags[LogitConfig])


if __name__ == "__main__":
    main()
