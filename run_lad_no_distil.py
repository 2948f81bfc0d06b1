#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by LAD-NO: one gate per student layer, no chain.

    python run_lad_no_distil.py --teacher_exp teacher --experiment LAD_NO --task sst2 --epoch 3

Loop: `fine_tune/train/lad_no.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig
from fine_tune.train.methods import GATE_GROUPS, GateFlags, HiddenConfig, LogitConfig, MapConfig, add_gate_flags

GROUPS = (*STUDENT_GROUPS, LogitConfig, HiddenConfig, MapConfig, GateFlags, OutputsConfig)


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    parser = Parser(__doc__, repeats=True)
    add_groups(parser, GROUPS)
    add_gate_flags(parser)
    parser.set_defaults(lr=1e-4)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Wire and train."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags, gate_flags = Flags(GROUPS, args), Flags(GATE_GROUPS, args, "gate_")

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.hardware.distributed import wrap
        from fine_tune.layer_map import layer_map
        from fine_tune.model.gate import GatePairs
        from fine_tune.run.job import Job
        from fine_tune.train.lad_no import teacher_needs, train_lad_no

        job = Job(flags, parser.argv)
        followed = layer_map(flags[MapConfig].layer_map, *job.layers)
        student = job.build_student()
        gates = GatePairs(job.gate_shape(), followed)
        job.place_gates(gates, gate_flags)
        teacher = job.open_teacher(teacher_needs(followed))
        updater = job.updater()
        log = job.start("lad_no", followed)

    with log:
        models = (teacher, wrap(student), wrap(gates))
        mu = flags[HiddenConfig].hidden_mse_weight
        train_lad_no(flags[LogitConfig], mu, followed, models, updater, job.updates(teacher), job.devices, log)
    job.finish()


if __name__ == "__main__":
    main()
