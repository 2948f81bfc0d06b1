#!/usr/bin/env python3
r"""Distil by contrast: the student's pooled output finds its teacher's among those of other rows; and by logits.

    python build_membank.py --experiment teacher --task mnli --dataset train
    python run_fine_tune_contrast_distill.py --teacher_exp teacher --experiment contrast --task mnli --epoch 10 \
        --neg_num 10 [--two_stage --contrast_steps 98176]

`--softmax_temp` is the contrast's temperature, as released. Loops: `fine_tune/train/contrast.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import RunConfig, StepConfig
from fine_tune.train.methods import METHODS, ContrastConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_fine_tune_contrast_distill", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.data.batches import Deal
        from fine_tune.data.contrast import Negatives
        from fine_tune.run.duration import warn_of_stage
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.teacher.bank import pooled_bank
        from fine_tune.teacher.banked import MemoryBank, bank_device, check_width, open_banks
        from fine_tune.teacher.protocol import Needs
        from fine_tune.train.contrast import train_contrast, train_contrast_alone

        run = prepare(resolve(flags))
        cfg = flags[ContrastConfig]
        warn_of_stage("contrast_steps", cfg.contrast_steps, run.flags[StepConfig])
        check_width(run.teacher, run.flags)
        (vectors,) = open_banks(run.teacher, run.teacher_rows, [pooled_bank(run.teacher)])
        bank = MemoryBank(vectors, bank_device(cfg.membank_device), run.devices.student)
        negatives = Negatives(run.rows, cfg.neg_num, cfg.defined_by_label, flags[RunConfig].seed)
        student, origin = build_student(run, matched=False)
        teacher = open_teacher(run, Needs(METHODS[flags.method].needs))
        session = start(
            run, {"": student}, teacher, origin=origin, deal=Deal(negatives=negatives), staged=cfg.contrast_steps > 0
        )

    with session:
        if cfg.contrast_steps:
            train_contrast_alone(session, session.models[""], bank, cfg)
        train_contrast(session, teacher, session.models[""], bank, cfg)


if __name__ == "__main__":
    main()
