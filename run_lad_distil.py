#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by LAD, for a number of updates.

    python run_lad_distil.py --teacher_exp teacher --experiment LAD --task sst2 --total_step 6000 --warmup_step 600

Loop: `fine_tune/train/lad.py`. In epochs: `run_lad_distil_epoch.py`. Recipes: `scripts/<task>.sh`.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig
from fine_tune.train.methods import (
    GATE_GROUPS,
    ChainConfig,
    GateFlags,
    HiddenConfig,
    LogitConfig,
    MapConfig,
    add_gate_flags,
)

GROUPS = (*STUDENT_GROUPS, LogitConfig, HiddenConfig, MapConfig, GateFlags, ChainConfig, OutputsConfig)


def build_parser(description: str | None = __doc__) -> Parser:
    """Name the groups of flags that this script takes."""
    parser = Parser(description, repeats=True)
    add_groups(parser, GROUPS)
    add_gate_flags(parser)
    parser.set_defaults(lr=1e-4)
    return parser


def main(argv: Sequence[str] | None = None, parser: Parser | None = None) -> None:
    """Wire and train."""
    parser = parser or build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags, gate_flags = Flags(GROUPS, args), Flags(GATE_GROUPS, args, "gate_")

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.hardware.distributed import wrap
        from fine_tune.layer_map import layer_map
        from fine_tune.model.gate import GateChain
        from fine_tune.run.job import Job
        from fine_tune.train.lad import teacher_needs, train_lad

        job = Job(flags, parser.argv)
        followed = layer_map(flags[MapConfig].layer_map, *job.layers)
        student = job.build_student()
        gates = GateChain(job.gate_shape(), job.layers[0], followed, flags[ChainConfig].reverse_gate)
        job.place_gates(gates, gate_flags)
        teacher = job.open_teacher(teacher_needs(gates))
        updater = job.updater()
        log = job.start("lad", followed)

    with log:
        models = (teacher, wrap(student), wrap(gates))
        mu = flags[HiddenConfig].hidden_mse_weight
        train_lad(flags[LogitConfig], mu, models, updater, job.updates(teacher), job.devices, log)
    job.finish()


if __name__ == "__main__":
    main()
