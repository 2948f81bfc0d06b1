#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by LAD, for a number of epochs.

    python run_lad_distil_epoch.py --teacher_exp teacher --experiment LAD --task sst2 --epoch 3 --warmup_rate 0.1

The same as `run_lad_distil.py`, but for its default weight of the hidden loss: 1, as in the released script.
"""

from collections.abc import Sequence

import run_lad_distil
from fine_tune.flags.parser import Parser
from fine_tune.train.methods import method_parser


def build_parser() -> Parser:
    """Take the flags of `run_lad_distil.py`, with another default."""
    return method_parser("run_lad_distil", __doc__, hidden_mse_weight=1.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, build what is trained, train it."""
    run_lad_distil.main(argv, build_parser())


if __name__ == "__main__":
    main()
