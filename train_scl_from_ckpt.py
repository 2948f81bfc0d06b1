#!/usr/bin/env python3
"""Continue a student with the supervised contrast of labels alone; the source run is left as it is.

    python train_scl_from_ckpt.py --src_experiment hidden --experiment SCL --task mnli --epoch 2 [--scl_temp 0.1]

Split and seed are the source's unless given; optimiser and schedule start anew. Loop: `fine_tune/train/scl.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.inherited import inherited
from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import RunConfig
from fine_tune.train.methods import SclConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("train_scl_from_ckpt", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = inherited(parser, args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.data.batches import Deal
        from fine_tune.data.contrast import balanced, check_classes
        from fine_tune.run.source import read_student
        from fine_tune.run.start import prepare, resolve, start
        from fine_tune.train.scl import train_scl

        run = prepare(resolve(flags), read_student)
        check_classes(run.rows, flags[RunConfig])
        parts = {"": run.source.model}
        session = start(run, parts, origin=dict(run.source.origin), deal=Deal(balanced), staged=True)

    with session:
        train_scl(session, session.models[""], flags[SclConfig])


if __name__ == "__main__":
    main()
