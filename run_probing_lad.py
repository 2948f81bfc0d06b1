#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by a probe of LAD.

    python run_probing_lad.py --probing_exp lad_user_defined --gate_indices 6,4 --student_indices 3,2 \
        --teacher_exp teacher --experiment probe --task sst2 --epoch 3

`lad_user_defined`: student layers learn the gates that you name (and start from those teacher layers); `partial_lad`:
the first student layers learn the gates that you name, the others teacher layers; `lad_cls`: gates on [CLS] alone.
`--teacher_indices` is another name of `--gate_indices`. Loops: `fine_tune/train/lad.py`, `probing_lad.py` beside it.
"""

from collections.abc import Sequence
from functools import partial

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import STUDENT_GROUPS, OutputsConfig
from fine_tune.train.methods import GATE_GROUPS, GateFlags, HiddenConfig, LadProbeConfig, LogitConfig, add_gate_flags

GROUPS = (*STUDENT_GROUPS, LogitConfig, HiddenConfig, LadProbeConfig, GateFlags, OutputsConfig)


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
        from fine_tune.model.gate import GateChain
        from fine_tune.run.job import Job
        from fine_tune.train.lad import train_lad
        from fine_tune.train.probing_lad import probe_maps, teacher_needs, train_lad_cls, train_partial_lad

        job = Job(flags, parser.argv)
        probe = flags[LadProbeConfig]
        learned, plain = probe_maps(probe, flags[GateFlags].gate_norm, *job.layers)
        loops = {
            "lad_user_defined": train_lad,
            "partial_lad": partial(train_partial_lad, plain=plain),
            "lad_cls": train_lad_cls,
        }
        tokens, level = (1, "cls") if probe.probing_exp == "lad_cls" else (None, "states")
        student = job.build_student(named=learned if probe.probing_exp == "lad_user_defined" else None)
        gates = GateChain(job.gate_shape(tokens), job.layers[0], learned)
        job.place_gates(gates, gate_flags)
        teacher = job.open_teacher(teacher_needs(level, gates, plain))
        updater = job.updater()
        log = job.start(probe.probing_exp, dict(sorted((learned | plain).items())))

    with log:
        models, mu = (teacher, wrap(student), wrap(gates)), flags[HiddenConfig].hidden_mse_weight
        train = loops[probe.probing_exp]
        train(flags[LogitConfig], mu, models, updater, job.updates(teacher), job.devices, log)
    job.finish()


if __name__ == "__main__":
    main()
