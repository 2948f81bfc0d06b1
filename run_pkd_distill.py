#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by PKD: teacher layers are learned as they are.

    python run_pkd_distill.py --teacher_exp teacher --experiment PKD --task sst2 --epoch 3 [--pkd_exp pkd-skip]

`pkd-hidden`: all tokens of the mapped layers, as the LAD authors ran it; `pkd-skip` and `pkd-last`: normalised [CLS]
vectors, as published. Loops: `fine_tune/train/pkd.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig
from fine_tune.train.methods import HiddenConfig, LogitConfig, MapConfig, PkdConfig

GROUPS = (*STUDENT_GROUPS, LogitConfig, HiddenConfig, MapConfig, PkdConfig, OutputsConfig)


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
        from fine_tune.layer_map import layer_map
        from fine_tune.run.job import Job
        from fine_tune.train.pkd import cls_map, teacher_needs, train_pkd, train_pkd_cls

        job = Job(flags, parser.argv)
        experiment, words = flags[PkdConfig].pkd_exp, flags[MapConfig].layer_map
        if experiment == "pkd-hidden":
            followed, level, train = layer_map(words, *job.layers), "states", train_pkd
        else:
            followed, level, train = cls_map(experiment, words, *job.layers), "cls", train_pkd_cls
        student = job.build_student()
        teacher = job.open_teacher(teacher_needs(level, followed))
        updater = job.updater()
        log = job.start(experiment, followed)

    with log:
        models, mu = (teacher, wrap(student)), flags[HiddenConfig].hidden_mse_weight
        train(flags[LogitConfig], mu, followed, models, updater, job.updates(teacher), job.devices, log)
    job.finish()


if __name__ == "__main__":
    main()
