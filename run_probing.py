#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by PKD with a layer map of yours.

    python run_probing.py --probing_exp pkd_hidden_user_defined --teacher_indices 3,4,6 --student_indices 1,2,3 \
        --teacher_exp teacher --experiment probe --task sst2 --epoch 3

`pkd_hidden_user_defined`: all tokens; `pkd_cls_user_defined`: normalised [CLS] vectors. A student layer starts from the
teacher layer that it learns. Loops: `fine_tune/train/pkd.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import METHODS, HiddenConfig, PkdProbeConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_probing", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.layer_map import paired
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.teacher.protocol import Needs
        from fine_tune.train.pkd import train_pkd, train_pkd_cls

        run = prepare(resolve(flags))
        needs, probe = METHODS[flags.method].needs, flags[PkdProbeConfig]
        train = train_pkd_cls if needs == "cls" else train_pkd
        follows = paired("--teacher_indices", probe.teacher_indices, probe.student_indices, *run.layers)
        student, origin = build_student(run, named=follows)
        teacher = open_teacher(run, Needs(needs, tuple(sorted(set(follows.values()))), unit=needs == "cls"))
        session = start(run, {"": student}, teacher, origin=origin, layer_map=follows)

    with session:
        train(session, teacher, session.models[""], follows, flags[HiddenConfig])


if __name__ == "__main__":
    main()
