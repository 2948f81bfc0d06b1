#!/usr/bin/env python3
r"""Continue a student with the distillation of logits; the source run is left as it is.

    python train_kd_from_ckpt.py --teacher_exp teacher --src_experiment SCL --experiment SCL_KD --task mnli --epoch 2 \
        --softmax_temp 10 [--freeze_encoder]

Split and seed are the source's unless given; optimiser and schedule start anew. Loop: `fine_tune/train/kd.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.inherited import inherited
from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import ContinuedKdConfig, LogitConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("train_kd_from_ckpt", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = inherited(parser, args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.run.source import read_student
        from fine_tune.run.start import open_teacher, prepare, resolve, start
        from fine_tune.teacher.protocol import Needs
        from fine_tune.train.kd import train_kd

        run = prepare(resolve(flags), read_student)
        cfg, student = flags[ContinuedKdConfig], run.source.model
        student.encoder.requires_grad_(not cfg.freeze_encoder)
        teacher = open_teacher(run, Needs("logits"))
        session = start(run, {"": student}, teacher, origin=dict(run.source.origin))

    with session:
        shares = LogitConfig(
            softmax_temp=cfg.softmax_temp, soft_weight=cfg.soft_weight, hard_weight=1 - cfg.soft_weight
        )
        train_kd(session, teacher, session.models[""], shares)


if __name__ == "__main__":
    main()
