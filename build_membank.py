#!/usr/bin/env python3
"""Write a model's normalised vectors of every row of a split as memory banks, which contrast finds its negatives in.

    python build_membank.py --experiment teacher --task mnli --dataset train --ckpt 36816 [--layer_wise]

Writes `membank.pt`, the pooled output, or with `--layer_wise` `membank<i>.pt`, [CLS] after layer i (0-based), into the
run's folder. Content: `fine_tune/teacher/bank.py`. Started again, it makes the banks that are missing.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import EvalConfig, OutletConfig, PrecisionConfig


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    parser = Parser(__doc__, (EvalConfig, PrecisionConfig, OutletConfig))
    parser.set_defaults(dataset="train")
    parser.add_argument("--layer_wise", action="store_true", help="a bank of [CLS] per layer, not one of pooled output")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the model where its outputs are not in the cache, and write them."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from functools import partial

        from torch import Tensor

        from fine_tune.run.outputs import open_subject, outputs
        from fine_tune.teacher.bank import (
            is_there,
            layer_bank,
            made_from,
            normalised,
            pooled,
            pooled_bank,
            tell_room,
            write_bank,
        )

        subject = open_subject(flags)
        loaded, rows = subject.loaded, subject.rows
        about, shape = made_from(loaded, rows), (len(rows), loaded.model.width)
        layers = list(range(loaded.model.num_layers)) if args.layer_wise else [loaded.model.num_layers - 1]
        files = {layer_bank(loaded, layer) if args.layer_wise else pooled_bank(loaded): layer for layer in layers}
        missing = [file for file in files if not is_there(file, about, flags[OutletConfig].overwrite)]
        if missing:
            tell_room(loaded.folder, shape, len(missing))
            store = outputs(subject, "cls", layers)
            change = Tensor.float if args.layer_wise else partial(pooled, loaded.model, subject.device)
            for file in missing:
                write_bank(file, "membank", shape, normalised(store, files[file], change), about)
        for file in files:
            print(f"{'wrote' if file in missing else 'already there'}: {file} ({shape[0]} rows of width {shape[1]})")


if __name__ == "__main__":
    main()
