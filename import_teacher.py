#!/usr/bin/env python3
"""Make a run of a classifier that was fine-tuned elsewhere, so that students can learn from it.

    python import_teacher.py --experiment teacher --task sst2 --ptrain_ver <hub name or folder>
    python run_lad_distil.py --teacher_exp teacher --experiment LAD --task sst2

BERT, ALBERT, RoBERTa, XLM-R, ELECTRA, DistilBERT, MPNet, DeBERTa v1 and v2, as transformers saves them. Its classes are
matched with the task's by name. The run is written only if it gives the same logits; see doc/teachers.md.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import ImportConfig
from fine_tune.tasks.named import task_named


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    return Parser(__doc__, (ImportConfig,))


def main(argv: Sequence[str] | None = None) -> None:
    """Import one classifier and say what can be done with it."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)
        cfg = flags[ImportConfig]

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.run.imported import import_teacher
        from fine_tune.run.process import set_up_process

        set_up_process()
        folder = import_teacher(cfg, task_named(cfg.task), flags.command)
    kind = folder.name.removeprefix(f"{cfg.experiment}_").removesuffix(f"_{cfg.task}")
    print(f"score it: python run_fine_tune_eval.py --experiment {cfg.experiment} --model {kind} --task {cfg.task}")


if __name__ == "__main__":
    main()
