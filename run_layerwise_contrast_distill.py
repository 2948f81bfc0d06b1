#!/usr/bin/env python3
r"""Distil by contrast of every layer's [CLS], and by logits; all that is the teacher's is read from banks on disk.

    python build_logitsbank.py --experiment teacher --task mnli --dataset train
    python build_membank.py --experiment teacher --task mnli --dataset train --layer_wise
    python run_layerwise_contrast_distill.py --teacher_exp teacher --experiment layerwise --task mnli --epoch 10 \
        --neg_num 20 --defined_by_label [--contrast_steps 30000]

Loops: `fine_tune/train/layerwise_contrast.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import RunConfig, StepConfig
from fine_tune.train.methods import LayerContrastConfig, MapConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_layerwise_contrast_distill", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.data.batches import Deal
        from fine_tune.data.contrast import Negatives
        from fine_tune.layer_map import layer_map
        from fine_tune.run.duration import warn_of_stage
        from fine_tune.run.start import build_student, prepare, resolve, start
        from fine_tune.teacher.banked import BankedTeacher, banked_teacher, check_width
        from fine_tune.teacher.protocol import Needs
        from fine_tune.train.layerwise_contrast import train_layerwise_contrast, train_layerwise_contrast_alone

        run = prepare(resolve(flags))
        cfg = flags[LayerContrastConfig]
        warn_of_stage("contrast_steps", cfg.contrast_steps, run.flags[StepConfig])
        check_width(run.teacher, run.flags)
        negatives = Negatives(run.rows, cfg.neg_num, cfg.defined_by_label, flags[RunConfig].seed)
        student, origin = build_student(run, matched=False)
        follows = layer_map(flags[MapConfig].layer_map, *run.layers)
        needs = Needs("cls", tuple(sorted(set(follows.values()))), unit=True)
        banked = banked_teacher(run.teacher, run.teacher_rows, needs, run.devices.teacher, run.devices.student)
        banks = {layer: banked.layers[followed] for layer, followed in follows.items()}
        teacher = BankedTeacher(banked.logits, {})
        deal, staged = Deal(negatives=negatives), cfg.contrast_steps > 0
        session = start(run, {"": student}, teacher, origin=origin, layer_map=follows, deal=deal, staged=staged)

    with session:
        if cfg.contrast_steps:
            train_layerwise_contrast_alone(session, session.models[""], banks, cfg)
        train_layerwise_contrast(session, teacher, session.models[""], banks, cfg)


if __name__ == "__main__":
    main()
