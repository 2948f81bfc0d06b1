"""The results of a suite: scores computed from saved predictions, and a test of every pair of rows.

Shapes: M rows of the suite, the teacher among them, S seeds, N rows of the split.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fine_tune.compare import statistics
from fine_tune.compare.suite import TEACHER
from fine_tune.scores.metrics import metric, right
from fine_tune.tasks.rows import SEVERAL
from fine_tune.tasks.table import Task


class Prediction(NamedTuple):
    """A table of predictions: ids, labels, and class numbers or unclipped scores, (N,) each.

    Where several labels may hold, these are 1 or 0 of each, (N, C).
    """

    ids: NDArray[np.str_]
    label: NDArray[Any]
    guess: NDArray[Any]


class Pair(NamedTuple):
    """Two rows compared by the deciding metric: `one` minus `other`."""

    one: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    holm_p: float
    mcnemar_p: list[float]


@dataclass
class Results:
    """What the tables show.

    Attributes:
        task: The task.
        split: Name of the split.
        rows: N.
        seeds: The seeds.
        scores: Metrics by row, one value per seed; the teacher, the first row, has one.
        interval: Interval of each row's mean over seeds and rows.
        pairs: Every pair of rows.
    """

    task: Task
    split: str
    rows: int
    seeds: list[int]
    scores: dict[str, dict[str, list[float]]]
    interval: dict[str, tuple[float, float]]
    pairs: list[Pair]

    def by_seed(self, row: str) -> list[float]:
        """Deciding metric of every seed; the teacher's is the same for all."""
        values = self.scores[row][self.task.metrics[0]]
        return values * len(self.seeds) if row == TEACHER else values

    def mean(self, row: str) -> float:
        """Mean of the deciding metric over seeds."""
        return statistics.mean_and_sd(self.scores[row][self.task.metrics[0]])[0]

    def kept(self, row: str) -> float:
        """Share of the teacher's score."""
        return self.mean(row) / self.mean(TEACHER) if self.mean(TEACHER) else math.nan


def prediction_file(folder: Path, split: str, step: int) -> Path:
    """File of the predictions that suites compare: always in float32."""
    return folder / f"suite_{split}-{step}.tsv"


def read_prediction(file: Path, task: Task) -> Prediction:
    """Read what `scores.predict.save_prediction` wrote.

    Raises:
        ValueError: The file is something else.
        FileNotFoundError: There is none.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; leave out --report_only to make what is missing")
    name, kind = ("logit_0", np.float32) if task.regression else ("prediction", np.int64)
    try:
        options: dict[str, Any] = {"na_filter": False, "quoting": csv.QUOTE_NONE, "skip_blank_lines": False}
        table = pd.read_csv(file, sep="\t", dtype=str, **options)
        ids, label, guess = (table[column].to_numpy(str) for column in ("id", "label", name))
        if task.multi:
            return Prediction(ids, from_cells(label, task.num_class), from_cells(guess, task.num_class))
        return Prediction(ids, label.astype(kind), guess.astype(kind))
    except (ValueError, KeyError):
        raise ValueError(
            f"{file}: not a table with id, label and {name} in every line; remove it and start again"
        ) from None


def from_cells(cells: NDArray[np.str_], num_class: int) -> NDArray[np.int64]:
    """Read what `scores.predict.in_cells` wrote: (N, C).

    Raises:
        ValueError: A number is not that of a label.
    """
    values = np.zeros((len(cells), num_class), np.int64)
    for row, cell in zip(values, cells.tolist(), strict=True):
        for number in filter(None, cell.split(SEVERAL)):
            if int(number) not in range(num_class):
                raise ValueError(number)
            row[int(number)] = 1
    return values


def score(prediction: Prediction, task: Task) -> dict[str, float]:
    """Compute every metric of the task."""
    return {name: metric(name)(prediction.label, prediction.guess) for name in task.metrics}


def compare(files: Mapping[str, Sequence[Path]], seeds: Sequence[int], task: Task, split: str) -> Results:
    """Score the predictions of every row, seed by seed, and test every pair by the task's first metric.

    Args:
        files: By row; the teacher's, a single one, first.
        seeds: Seeds of the rows.
        task: The task.
        split: Name of the split.

    Raises:
        ValueError: Tables of different rows or labels.
    """
    tables = {row: [read_prediction(file, task) for file in own] for row, own in files.items()}
    first = tables[TEACHER][0]
    for row, own in tables.items():
        for file, table in zip(files[row], own, strict=True):
            if not (np.array_equal(table.ids, first.ids) and np.array_equal(table.label, first.label)):
                raise ValueError(f"{file} has other rows or labels than {files[TEACHER][0]}; remove the older one")
    scores = {row: {name: [score(t, task)[name] for t in own] for name in task.metrics} for row, own in tables.items()}

    guess = np.array([[t.guess for t in (own * len(seeds) if row == TEACHER else own)] for row, own in tables.items()])
    correct = right(first.label, guess)  # (M, S, N)
    if task.metrics[0] == "accuracy":
        resampled = statistics.resample_accuracy(correct, statistics.RESAMPLES)
    elif task.metrics[0] in ("f1", "micro_f1"):
        resampled = statistics.resample_f1(first.label, guess, statistics.RESAMPLES)
    else:  # Matthews' correlation of two classes, or Pearson's of scores
        resampled = statistics.resample_correlation(first.label, guess, statistics.RESAMPLES)
    interval = {row: statistics.interval(resampled[:, index]) for index, row in enumerate(tables)}
    results = Results(task, split, len(first.ids), list(seeds), scores, interval, [])

    places = list(combinations(range(len(tables)), 2))
    p = [statistics.bootstrap_p(resampled[:, a] - resampled[:, b]) for a, b in places]
    for (a, b), own_p, holm_p in zip(places, p, statistics.holm(p), strict=True):
        one, other = list(tables)[a], list(tables)[b]
        low, high = statistics.interval(resampled[:, a] - resampled[:, b])
        runs = [] if task.regression else zip(correct[a], correct[b], strict=True)
        mcnemar = [statistics.mcnemar_p(*pair) for pair in runs]
        difference = results.mean(one) - results.mean(other)
        results.pairs.append(Pair(one, other, difference, low, high, own_p, holm_p, mcnemar))
    return results
