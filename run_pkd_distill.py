#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by PKD: teacher layers are learned as they are.

    python run_pkd_distill.py --teacher_exp teacher --experiment PKD --task sst2 --epoch 3 [--pkd_exp pkd-skip]

`pkd-hidden`: all tokens of the mapped layers, as the LAD authors ran it; `pkd-skip` and `pkd-last`: normalised [CLS]
vectors, as published. Loops: `fine_tune/train/pkd.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import METHODS, HiddenConfig, MapConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_pkd_distill", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.layer_map import layer_map
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.teacher.protocol import Needs
        from fine_tune.train.pkd import cls_map, train_pkd, train_pkd_cls

        run = prepare(resolve(flags))
        needs, words = METHODS[flags.method].needs, flags[MapConfig].layer_map
        if needs == "cls":
            follows, train = cls_map(flags.method, words, *run.layers), train_pkd_cls
        else:
            follows, train = layer_map(words, *run.layers), train_pkd
        student, origin = build_student(run)
        teacher = open_teacher(run, Needs(needs, tuple(sorted(set(follows.values()))), unit=needs == "cls"))
        session = start(run, {"": student}, teacher, origin=origin, layer_map=follows)

    with session:
        train(session, teacher, session.models[""], follows, flags[HiddenConfig])


if __name__ == "__main__":
    main()
