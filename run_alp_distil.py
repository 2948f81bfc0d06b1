#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by ALP-KD: the student's attention picks its targets.

    python run_alp_distil.py --teacher_exp teacher --experiment ALP --task sst2 --epoch 3 [--alp_exp alp-kd-hidden]

Loops: `fine_tune/train/alp.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig
from fine_tune.train.methods import AlpConfig, HiddenConfig, LogitConfig, MapConfig

GROUPS = (*STUDENT_GROUPS, LogitConfig, HiddenConfig, MapConfig, AlpConfig, OutputsConfig)


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
        from fine_tune.train.alp import full_reach, lower_reach, teacher_needs, train_alp, train_alp_cls

        job = Job(flags, parser.argv)
        alp, words = flags[AlpConfig], flags[MapConfig].layer_map
        followed = layer_map(words, *job.layers) if alp.alp_exp == "alp-kd-hidden-v2" else None
        if words is not None and not followed:
            raise ValueError(f"--layer_map {words}: with {alp.alp_exp} every student layer looks at all teacher layers")
        reach = lower_reach(followed) if followed else full_reach(*job.layers)
        level, train = ("cls", train_alp_cls) if alp.alp_exp == "alp-kd" else ("states", train_alp)
        student = job.build_student()
        teacher = job.open_teacher(teacher_needs(level, reach))
        updater = job.updater()
        log = job.start(alp.alp_exp, followed)

    with log:
        models, mu = (teacher, wrap(student)), flags[HiddenConfig].hidden_mse_weight
        train(flags[LogitConfig], mu, reach, alp.detach_target, models, updater, job.updates(teacher), job.devices, log)
    job.finish()


if __name__ == "__main__":
    main()
