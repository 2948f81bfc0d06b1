#!/usr/bin/env python3
"""Write augmented rows of a task, for students that learn from them: masked words, replaced words, n-grams.

    python build_augmented.py --task sst2 --lower --parallel
    python run_pkd_distill.py --teacher_exp teacher --experiment pkd --task sst2 --dataset augmented --hard_weight 0

Writes `augmented.tsv` beside the task's files, each training row before its samples, without labels. The same seed
gives the same file for any number of processes; interrupted, the same command goes on. Operations:
`fine_tune/glove/augment.py`.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fine_tune.flags.option import Checked, flag
from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import TASK
from fine_tune.glove.flags import AugmentConfig, CrewConfig
from fine_tune.tasks.named import task_named


@dataclass(frozen=True)
class TaskConfig(Checked):
    """Rows."""

    task: str = flag(TASK)


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    return Parser(__doc__, (TaskConfig, CrewConfig, AugmentConfig))


def main(argv: Sequence[str] | None = None) -> None:
    """Augment the training rows of a task."""
    parser = build_parser()
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with usage_errors(parser, "interrupted; the same command goes on"):
        flags = parser.flags(args)
        crew, task = flags[CrewConfig], task_named(flags[TaskConfig].task)
        if len(task.text) > 1:
            raise ValueError(f"--task {task.name}: pairs of texts; only tasks of single ones are augmented")

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.glove.stream import augment_and_tell
        from fine_tune.tasks.rows import read_split

        rows = read_split(task, task.splits[0])
        texts = [re.sub(r"[\t\n]", " ", row.text[0]) for row in rows]  # what a line of the output cannot hold
        file = task.augmented_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        augment_and_tell(lambda: iter(texts), file, flags[AugmentConfig], crew.analyzer, crew, header=task.text[0])


if __name__ == "__main__":
    main()
