#!/usr/bin/env python3
"""Write what a model, teacher or student, says of every row of a split: the data set of offline distillation.

    python run_fine_tune_gen_logits.py --experiment teacher --task boolq --dataset train --ckpt 2946

Writes `<task>-distill.jsonl` (text, label, logits) into the run's folder, and beside it what it was made from. Rows:
`fine_tune/teacher/bank.py`.
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
        from fine_tune.teacher.bank import is_there, made_from, write_distilled

        subject = open_subject(flags)
        about = made_from(subject.loaded, subject.rows)
        file = subject.loaded.folder / f"{subject.rows.task.name}-distill.jsonl"
        there = is_there(file, about, flags[OutletConfig].overwrite)
        if not there:
            write_distilled(file, outputs(subject, "logits"), about)
        print(f"{'already there' if there else 'wrote'}: {file} ({len(subject.rows)} rows)")


if __name__ == "__main__":
    main()
