#!/usr/bin/env python3
"""Write a model's logits of every row of a split as a bank: distillation by logits then needs no teacher in memory.

    python build_logitsbank.py --experiment teacher --task mnli --dataset train --ckpt 36816

Writes `logitsbank-<ckpt>.pt` into the run's folder. Content: `fine_tune/teacher/bank.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import EvalConfig, OutletConfig, PrecisionConfig


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    parser = Parser(__doc__, (EvalConfig, PrecisionConfig, OutletConfig))
    parser.set_defaults(dataset="train")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the model where its outputs are not in the cache, and write them."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.run.outputs import open_subject, outputs
        from fine_tune.teacher.bank import is_there, logits_bank, logits_of, made_from, write_bank

        subject = open_subject(flags)
        loaded, rows = subject.loaded, subject.rows
        about, shape = made_from(loaded, rows), (len(rows), rows.task.num_class)
        file = logits_bank(loaded)
        there = is_there(file, about, flags[OutletConfig].overwrite)
        if not there:
            write_bank(file, "logitsbank", shape, logits_of(outputs(subject, "logits")), about)
        print(f"{'already there' if there else 'wrote'}: {file} ({len(rows)} rows)")


if __name__ == "__main__":
    main()
