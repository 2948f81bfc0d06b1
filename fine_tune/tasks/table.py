"""The one table of tasks, and the one reader of their files.

Formats are GLUE's and SuperGLUE's own: tab-separated without quoting (a quote is a character), or one JSON object per
line. A row that cannot be used ends the reading with `file:line: reason`; only QQP's known broken rows are skipped.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fine_tune.path import task_dir

logger = logging.getLogger(__name__)

NLI = ("entailment", "neutral", "contradiction")
PAIR_NLI = ("entailment", "not_entailment")
BINARY = ("0", "1")
MNLI_SPLITS = ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched")
SLICES = ("train_fit", "train_select")
"""Slices of the training rows, drawn row by row: 95 % to train on, and 5 %, always the same, to choose by."""


@dataclass(frozen=True)
class Task:
    """One row of the table.

    Attributes:
        name: Lower-case name on the command line.
        folder: Folder in GLUE's archive.
        text: Column(s) with the sentence or the pair.
        label: Column with the gold label.
        labels: Label strings in class order; empty for regression.
        metrics: What is reported, the deciding one first.
        submission: File name of test predictions per test split.
        splits: Names of the splits, the training split first; `dev` are those used to evaluate.
        suffix: Extension of the files.
        index: Column that identifies a row; where there is none, the row number does.
        headless: Columns of the labelled files where these have no header line.
        skip_broken: Skip rows with missing fields (with a count); `score_range` bounds regression targets.
        also: Another folder and suffix in which the same task is distributed.
    """

    name: str
    folder: str
    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...] = BINARY
    metrics: tuple[str, ...] = ("accuracy",)
    submission: tuple[tuple[str, str], ...] = ()
    splits: tuple[str, ...] = ("train", "dev", "test")
    dev: tuple[str, ...] = ("dev",)
    suffix: str = "tsv"
    index: str | None = "index"
    headless: tuple[str, ...] = ()
    skip_broken: bool = False
    score_range: tuple[float, float] = (0.0, 5.0)
    also: tuple[str, str] | None = None

    @property
    def regression(self) -> bool:
        """Whether the target is a number."""
        return not self.labels

    @property
    def num_class(self) -> int:
        """Size of the model's output; 1 for regression."""
        return len(self.labels) or 1

    def is_labelled(self, split: str) -> bool:
        """Whether the official files hold labels for `split`; a test split can never be scored."""
        return not split.startswith("test")

    def file(self, split: str) -> Path:
        """Path of a split, that of `train` for its slices; of the places a task is distributed in, the one that exists.

        Raises:
            ValueError: The task has no such split.
            FileNotFoundError: The data is not there.
        """
        if split not in self.splits + SLICES:
            raise ValueError(f"--dataset {split!r}: {self.name} has the splits {', '.join(self.splits + SLICES)}")
        stem = self.splits[0] if split in SLICES else split
        places = [(self.folder, self.suffix)] + ([self.also] if self.also else [])
        files = [task_dir(folder) / f"{stem}.{suffix}" for folder, suffix in places]
        if there := next(filter(Path.is_file, files), None):
            return there
        get = "python generate_sample_corpus.py" if self.name == "sample" else f"bash scripts/prepare_{self.name}.sh"
        raise FileNotFoundError(f"{files[0]} is not there; get it with: {get}")


TASKS = {
    task.name: task
    for task in (
        Task("sst2", "SST-2", ("sentence",), "label", submission=(("test", "SST-2.tsv"),)),
        Task("qnli", "QNLI", ("question", "sentence"), "label", PAIR_NLI, submission=(("test", "QNLI.tsv"),)),
        Task(
            "mnli", "MNLI", ("sentence1", "sentence2"), "gold_label", NLI, splits=MNLI_SPLITS, dev=MNLI_SPLITS[1:3],
            submission=(("test_matched", "MNLI-m.tsv"), ("test_mismatched", "MNLI-mm.tsv")), also=("mnli", "jsonl"),
        ),
        Task(
            "boolq", "BoolQ", ("passage", "question"), "label", ("false", "true"), suffix="jsonl", index="idx",
            splits=("train", "val", "test"), dev=("val",), submission=(("test", "BoolQ.jsonl"),),
        ),
        Task(
            "mrpc", "MRPC", ("#1 String", "#2 String"), "Quality", metrics=("accuracy", "f1"),
            submission=(("test", "MRPC.tsv"),),
        ),
        Task(
            "qqp", "QQP", ("question1", "question2"), "is_duplicate", metrics=("accuracy", "f1"), index="id",
            submission=(("test", "QQP.tsv"),), skip_broken=True,
        ),
        Task("rte", "RTE", ("sentence1", "sentence2"), "label", PAIR_NLI, submission=(("test", "RTE.tsv"),)),
        Task(
            "cola", "CoLA", ("sentence",), "label", metrics=("matthews", "accuracy"),
            submission=(("test", "CoLA.tsv"),), headless=("source", "label", "star", "sentence"),
        ),
        Task(
            "stsb", "STS-B", ("sentence1", "sentence2"), "score", (), ("pearson", "spearman"),
            submission=(("test", "STS-B.tsv"),),
        ),
        Task("sample", "SAMPLE", ("sentence",), "label", submission=(("test", "SAMPLE.tsv"),)),
    )
}  # fmt: skip


class Row(NamedTuple):
    """One example: its id, its one or two texts, and its label (class number or score; None where there is none)."""

    id: str
    text: tuple[str, ...]
    label: float | None


class RowError(ValueError):
    """A row that cannot be used; `broken` if it lacks a field."""

    def __init__(self, reason: str, broken: bool = False) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.broken = broken


def task_named(name: str) -> Task:
    """Find a task by its name, `sst2` or GLUE's own `SST-2`."""
    task = TASKS.get(name.lower().replace("-", ""))
    if task is None:
        raise ValueError(f"--task must be one of {', '.join(TASKS)}, got {name!r}")
    return task


def read_split(task: Task, split: str) -> list[Row]:
    """Read every row of a split, in the order of the file.

    Raises:
        ValueError: `file:line: reason` for the first row that cannot be used, or the file has no row.
    """
    file = task.file(split)
    labelled = task.is_labelled(split)
    lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    rows, skipped, header = [], 0, None
    if file.suffix == ".tsv":
        if task.headless and labelled:
            header = list(task.headless)
        elif lines:
            header = [name.strip() for name in lines[0].decode("utf-8", "replace").rstrip("\r").split("\t")]
            needed = (*task.text, *([task.label] if labelled else []))
            if missing := [name for name in needed if name not in header]:
                raise ValueError(f"{file}:1: missing column {', '.join(missing)}; the header has {', '.join(header)}")
    first_row = 1 if header and not (task.headless and labelled) else 0
    for number, line in enumerate(lines[first_row:], start=first_row + 1):
        try:
            if row := _row(task, _fields(line, header), labelled, number - first_row - 1):
                rows.append(row)
        except RowError as error:
            if not (error.broken and task.skip_broken and labelled):
                raise ValueError(f"{file}:{number}: {error}") from None
            skipped += 1
    if not rows:
        raise ValueError(f"{file}: no rows" + (f" left: all {skipped} lack fields" if skipped else ""))
    if skipped:
        logger.warning("%s: skipped %d rows with missing fields", file, skipped)
    return _slice(rows, split) if split in SLICES else rows


def _slice(rows: list[Row], name: str) -> list[Row]:
    import numpy as np  # imported here: no `--help` needs it

    held_out = set(np.random.default_rng(0).permutation(len(rows))[: max(1, round(0.05 * len(rows)))].tolist())
    return [row for number, row in enumerate(rows) if (number in held_out) == (name == "train_select")]


def _fields(line: bytes, header: list[str] | None) -> dict[str, object]:
    """Split a line into named fields: tab-separated under `header`, else a JSON object."""
    try:
        text = line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    if header is None:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RowError(f"not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise RowError(f"expected a JSON object, got {type(fields).__name__}")
        return fields
    cells = text.split("\t")
    if len(cells) != len(header):
        raise RowError(f"expected {len(header)} columns, got {len(cells)}", broken=True)
    return dict(zip(header, cells, strict=True))


def _row(task: Task, fields: dict[str, object], labelled: bool, number: int) -> Row | None:
    """Make a row of named fields; None for MNLI's rows whose annotators found no majority (gold label `-`)."""
    texts = []
    for name in task.text:
        text = fields.get(name)
        if not isinstance(text, str):
            raise RowError(f"missing text {name!r}", broken=True)
        if not text.strip() and (labelled or not task.skip_broken):
            raise RowError(f"empty text {name!r}", broken=True)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise RowError(f"text {name!r} holds half of a surrogate pair, which is no character")
        texts.append(text)
    label = fields.get(task.label)
    if labelled and task.labels == NLI and label == "-":
        return None
    return Row(str(fields.get(task.index or "", number)), tuple(texts), _label(task, label) if labelled else None)


def _label(task: Task, label: object) -> float:
    """Turn a label of the file into a class number, or a score."""
    if label is None:
        raise RowError(f"missing label {task.label!r}", broken=True)
    word = str(label).lower() if isinstance(label, bool) else str(label)
    if not task.regression:
        if word not in task.labels:
            raise RowError(f"unknown label {word!r}; expected one of {', '.join(task.labels)}", broken=not word)
        return float(task.labels.index(word))
    low, high = task.score_range
    try:
        score = float(word)
    except ValueError:
        raise RowError(f"the score {word!r} is not a number") from None
    if not low <= score <= high:
        raise RowError(f"the score {word} is not in {low:g}..{high:g}")
    return score
