#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by a probe of LAD.

    python run_probing_lad.py --probing_exp lad_user_defined --gate_indices 6,4 --student_indices 3,2 \
        --teacher_exp teacher --experiment probe --task sst2 --epoch 3

`lad_user_defined`: student layers learn the gates that you name (and start from those teacher layers); `partial_lad`:
the first student layers learn the gates that you name, the others teacher layers; `lad_cls`: gates on [CLS] alone.
`--teacher_indices` is another name of `--gate_indices`. Loops: `fine_tune/train/lad.py`, `probing_lad.py` beside it.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import GateConfig, HiddenConfig, LadProbeConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_probing_lad", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.model.gate import GateChain
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.train.gate_setup import SpreadWatch, gate_shape, gates_need, start_norms
        from fine_tune.train.lad import train_lad
        from fine_tune.train.probing_lad import probe_maps, train_lad_cls

        run = prepare(resolve(flags))
        on_cls = flags.method == "lad_cls"
        learned, plain = probe_maps(flags[LadProbeConfig], flags[GateConfig].gate_norm, *run.layers)
        student, origin = build_student(run, named=learned if flags.method == "lad_user_defined" else None)
        gates = GateChain(gate_shape(run, tokens=1 if on_cls else None), run.layers[0], learned, plain=plain)
        teacher = open_teacher(run, gates_need(run, gates))
        start_norms(run, gates, teacher)
        parts, follows = {"": student, "gate_": gates}, dict(sorted((learned | plain).items()))
        session = start(run, parts, teacher, origin=origin, layer_map=follows, watch=SpreadWatch())

    with session:
        train = train_lad_cls if on_cls else train_lad
        train(session, teacher, session.models[""], session.models["gate_"], flags[HiddenConfig])


if __name__ == "__main__":
    main()
