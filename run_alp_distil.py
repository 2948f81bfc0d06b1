#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by ALP-KD: the student's attention picks its targets.

    python run_alp_distil.py --teacher_exp teacher --experiment ALP --task sst2 --epoch 3 [--alp_exp alp-kd-hidden]

Loops: `fine_tune/train/alp.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import METHODS, AlpConfig, HiddenConfig, MapConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_alp_distil", __doc__)


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
        from fine_tune.train.alp import Attention, full_reach, lower_reach, train_alp, train_alp_cls

        run = prepare(resolve(flags))
        needs, words = METHODS[flags.method].needs, flags[MapConfig].layer_map
        train = train_alp_cls if needs == "cls" else train_alp
        follows = layer_map(words, *run.layers) if flags.method == "alp-kd-hidden-v2" else None
        if words is not None and not follows:
            raise ValueError(
                f"--layer_map {words}: with {flags.method} every student layer looks at all teacher layers"
            )
        reach = lower_reach(follows) if follows else full_reach(*run.layers)
        attend = Attention(reach, flags[AlpConfig].detach_target)
        student, origin = build_student(run)
        teacher = open_teacher(run, Needs(needs, attend.reads))
        session = start(run, {"": student}, teacher, origin=origin, layer_map=follows)

    with session:
        train(session, teacher, session.models[""], attend, flags[HiddenConfig])


if __name__ == "__main__":
    main()
