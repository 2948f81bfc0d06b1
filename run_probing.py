#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by PKD with a layer map of yours.

    python run_probing.py --probing_exp pkd_hidden_user_defined --teacher_indices 3,4,6 --student_indices 1,2,3 \
        --teacher_exp teacher --experiment probe --task sst2 --epoch 3

`pkd_hidden_user_defined`: all tokens; `pkd_cls_user_defined`: normalised [CLS] vectors. A student layer starts from the
teacher layer that it learns. Loops: `fine_tune/train/pkd.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig
from fine_tune.train.methods import HiddenConfig, LogitConfig, PkdProbeConfig

GROUPS = (*STUDENT_GROUPS, LogitConfig, HiddenConfig, PkdProbeConfig, OutputsConfig)


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
        from fine_tune.layer_map import paired
        from fine_tune.run.job import Job
        from fine_tune.train.pkd import teacher_needs, train_pkd, train_pkd_cls

        job = Job(flags, parser.argv)
        probe = flags[PkdProbeConfig]
        followed = paired("--teacher_indices", probe.teacher_indices, probe.student_indices, *job.layers)
        student = job.build_student(named=followed)
        level, train = {
            "pkd_hidden_user_defined": ("states", train_pkd),
            "pkd_cls_user_defined": ("cls", train_pkd_cls),
        }[probe.probing_exp]
        teacher = job.open_teacher(teacher_needs(level, followed))
        updater = job.updater()
        log = job.start(probe.probing_exp, followed)

    with log:
        models, mu = (teacher, wrap(student)), flags[HiddenConfig].hidden_mse_weight
        train(flags[LogitConfig], mu, followed, models, updater, job.updates(teacher), job.devices, log)
    job.finish()


if __name__ == "__main__":
    main()
