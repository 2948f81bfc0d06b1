#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by LAD-NO: one gate per student layer, no chain.

    python run_lad_no_distil.py --teacher_exp teacher --experiment LAD_NO --task sst2 --epoch 3

Loop: `fine_tune/train/lad.py`; gates: `GatePairs` in `fine_tune/model/gate.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import HiddenConfig, MapConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_lad_no_distil", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.layer_map import layer_map
        from fine_tune.model.gate import GatePairs
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.train.gate_setup import SpreadWatch, gate_shape, gates_need, start_norms
        from fine_tune.train.lad import train_lad

        run = prepare(resolve(flags))
        follows = layer_map(flags[MapConfig].layer_map, *run.layers)
        student, origin = build_student(run)
        gates = GatePairs(gate_shape(run), follows)
        teacher = open_teacher(run, gates_need(run, gates))
        start_norms(run, gates, teacher)
        parts = {"": student, "gate_": gates}
        session = start(run, parts, teacher, origin=origin, layer_map=follows, watch=SpreadWatch())

    with session:
        train_lad(session, teacher, session.models[""], session.models["gate_"], flags[HiddenConfig])


if __name__ == "__main__":
    main()
