"""The one reader of a task's files.

Formats are GLUE's and SuperGLUE's own: tab-separated without quoting (a quote is a character), or one JSON object per
line. A row that cannot be used ends the reading with `file:line: reason`; only QQP's known broken rows are skipped.
"""

import json
import logging
from typing import NamedTuple

from fine_tune.files import LFS
from fine_tune.tasks.table import SLICES, Task

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """One example: its id, its one or two texts, and its label (class number or score; None where there is none)."""

    id: str
    text: tuple[str, ...]
    label: float | None


class RowError(ValueError):
    """A row that cannot be used; `broken` if it lacks a field."""

    def __init__(self, reason: str, broken: bool = False) -> None:
        super().__init__(reason)
        self.broken = broken


def read_split(task: Task, split: str) -> list[Row]:
    """Read every row of a split, in the order of the file.

    Raises:
        ValueError: `file:line: reason` for the first row that cannot be used, or the file has no row.
    """
    file, task = task.file(split), task.as_read(split)
    labelled = task.is_labelled(split)
    content = file.read_bytes()
    if kind := foreign_kind(content):
        raise ValueError(f"{file}: {kind}; a UTF-8 text file with a row per line is needed")
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
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
            if twice := [name for name in (*needed, task.index) if header.count(str(name)) > 1]:
                raise ValueError(f"{file}:1: the column {twice[0]} stands twice; which one is meant? Remove the other")
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


def foreign_kind(content: bytes) -> str:
    """Say what a file is that cannot be a table in UTF-8; "" if it may be one."""
    start = content[:4096]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or 5 * start.count(b"\0") > len(start) > 0:
        return "not UTF-8, it looks like UTF-16"
    for mark, kind in (
        (b"\x1f\x8b", "a gzip archive"), (b"PK\x03\x04", "a zip archive or a spreadsheet"), (b"PAR1", "a Parquet file"),
        (LFS, "a git-lfs pointer, not the file itself (git lfs pull fetches it)"),
    ):  # fmt: skip
        if start.startswith(mark):
            return kind
    if start.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    if b"\r" in start.rstrip(b"\r\n") and b"\n" not in content:
        return "its lines end with carriage returns alone"
    return ""


def _slice(rows: list[Row], name: str) -> list[Row]:
    import numpy as np  # imported here: no `--help` needs it

    held_out = set(np.random.default_rng(0).permutation(len(rows))[: max(1, round(0.05 * len(rows)))].tolist())
    return [row for number, row in enumerate(rows) if (number in held_out) == (name == "train_select")]


def _fields(line: bytes, header: list[str] | None) -> dict[str, object]:
    """Split a line into named fields: tab-separated under `header`, else a JSON object."""
    try:
        text = line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        guess = "is the encoding Latin-1 or Windows-1252? Save the file as UTF-8"
        raise RowError(f"not UTF-8: {error.reason} at byte {error.start}; {guess}") from None
    if not text.strip():
        raise RowError("a blank line; remove it", broken=True)
    if header is None:
        try:
            fields = json.loads(text, object_pairs_hook=_once)
        except RowError:
            raise
        except (ValueError, RecursionError) as error:
            raise RowError(f"not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise RowError(f"expected a JSON object, got {type(fields).__name__}")
        return fields
    cells = text.split("\t")
    if len(cells) != len(header):
        raise RowError(f"expected {len(header)} columns, got {len(cells)}", broken=True)
    return dict(zip(header, cells, strict=True))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of its fields; of two with the same name, neither is to be trusted."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise RowError(f"the field {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return fields


def _row(task: Task, fields: dict[str, object], labelled: bool, number: int) -> Row | None:
    """Make a row of named fields; None for a row whose annotators found no majority (MNLI's gold label `-`)."""
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
    if labelled and task.no_label is not None and label == task.no_label:
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
