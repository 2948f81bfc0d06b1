#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by LAD.

    python run_lad_distil.py --teacher_exp teacher --experiment LAD --task sst2 --total_step 6000 --warmup_step 600

Loop: `fine_tune/train/lad.py`. `run_lad_distil_epoch.py` differs only in the default weight of the hidden loss: 1, here
100. Recipes: `scripts/<task>.sh`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import ChainConfig, HiddenConfig, MapConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_lad_distil", __doc__)


def main(argv: Sequence[str] | None = None, parser: Parser | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = parser or build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.layer_map import layer_map
        from fine_tune.model.gate import GateChain
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.train.gate_setup import SpreadWatch, gate_shape, gates_need, start_norms
        from fine_tune.train.lad import train_lad

        run = prepare(resolve(flags))
        follows = layer_map(flags[MapConfig].layer_map, *run.layers)
        student, origin = build_student(run)
        gates = GateChain(gate_shape(run), run.layers[0], follows, flags[ChainConfig].reverse_gate)
        teacher = open_teacher(run, gates_need(run, gates))
        start_norms(run, gates, teacher)
        parts = {"": student, "gate_": gates}
        session = start(run, parts, teacher, origin=origin, layer_map=follows, watch=SpreadWatch())

    with session:
        train_lad(session, teacher, session.models[""], session.models["gate_"], flags[HiddenConfig])


if __name__ == "__main__":
    main()
