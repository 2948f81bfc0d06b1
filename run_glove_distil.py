#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a network on word vectors: a CNN, or one on densely connected convolutions.

    bash scripts/prepare_glove.sh
    python run_glove_distil.py --teacher_exp teacher --experiment glove --task sst2 --dataset augmented

`--model glove-cnn`, `densenet-cnn`, `densenet-dsa`; `--mse_weight 0 --hard_weight 1` trains them on gold labels. Loop:
`fine_tune/train/logits.py`; method: `doc/methods/glove.md`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.train.methods import METHODS, LogitMseConfig, method_parser


def build_parser() -> Parser:
    """Build the command line: shared flags and those of this script's methods."""
    return method_parser("run_glove_distil", __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.glove.source import read_words
        from fine_tune.run.start import open_teacher, prepare, resolve, start
        from fine_tune.teacher.protocol import Needs
        from fine_tune.train.logits import train_logits

        run = prepare(resolve(flags), read_words)
        student = run.source.model
        teacher = open_teacher(run, Needs(METHODS[flags.method].needs))
        session = start(run, {"": student}, teacher, origin=dict(run.source.origin))

    with session:
        train_logits(session, teacher, session.models[""], flags[LogitMseConfig])


if __name__ == "__main__":
    main()
