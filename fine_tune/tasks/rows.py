"""The one reader of a task's files.

Formats are GLUE's and SuperGLUE's own: tab-separated without quoting (a quote is a character), or one JSON object per
line. A user's own files may be CSV, with quoting, or Parquet, too. A row that cannot be used ends the reading with
`file:line: reason` (of Parquet, the row's number, from 1); only QQP's known broken rows are skipped.
"""

import csv
import io
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fine_tune.files import LFS, first_line
from fine_tune.tasks.table import SLICES, Task

logger = logging.getLogger(__name__)

ENCODING = "is the encoding Latin-1 or Windows-1252? Save the file as UTF-8"
"""What to do about bytes that are not UTF-8."""
SEVERAL = "|"
"""Between the labels of a row that has several, in one cell."""


class Row(NamedTuple):
    """One example: its id, its one or two texts, and its label.

    That is a class number, a score, or for every label of a task of several 1 or 0; None where there is none.
    """

    id: str
    text: tuple[str, ...]
    label: float | tuple[float, ...] | None


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
    needed = (*task.text, *([task.label] if labelled else []))
    rows, skipped = [], 0
    for number, (line, fields) in enumerate(records(file, needed, task.headless if labelled else (), task.index)):
        try:
            if isinstance(fields, RowError):
                raise fields
            if row := _row(task, fields, labelled, number):
                rows.append(row)
        except RowError as error:
            if not (error.broken and task.skip_broken and labelled):
                raise ValueError(f"{file}:{line}: {error}") from None
            skipped += 1
    if not rows:
        raise ValueError(f"{file}: no rows" + (f" left: all {skipped} lack fields" if skipped else ""))
    if skipped:
        logger.warning("%s: skipped %d rows with missing fields", file, skipped)
    if task.files and file.suffix == ".tsv" and (quoted := sum(map(_is_quoted, rows))):
        logger.warning(
            "%s: %d rows look quoted, as in CSV; in .tsv a quote is a character: name it .csv?", file, quoted
        )
    if task.held_out and (split in ("train", "dev") or split in SLICES):
        held = _held_out(file, rows, *task.held_out)
        rows = [row for number, row in enumerate(rows) if (number in held) == (split == "dev")]
    return _slice(rows, split) if split in SLICES else rows


Records = Iterator[tuple[int, "dict[str, Any] | RowError"]]
"""Line number and named fields of every row, or what is wrong with it."""


def records(file: Path, needed: Sequence[str] = (), headless: Sequence[str] = (), index: str | None = None) -> Records:
    """Read the rows of a file as named fields, whatever they are.

    Args:
        file: The file; its suffix says of which format.
        needed: Columns that have to be there.
        headless: Columns of a tab-separated file without a header.
        index: A column that need not be there.

    Raises:
        ValueError: It is of another kind, or its header lacks a column, or names one twice.
    """
    if file.suffix == ".parquet":
        return _parquet(file, needed)
    content = file.read_bytes()
    if kind := foreign_kind(content):
        raise ValueError(f"{file}: {kind}; a UTF-8 text file with a row per line is needed")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if file.suffix == ".csv":
        return _comma_separated(file, content, needed)
    return _lines(file, content, needed, headless, index)


def _lines(file: Path, content: bytes, needed: Sequence[str], headless: Sequence[str], index: str | None) -> Records:
    """Read a row per line: tab-separated without quoting, or JSON."""
    lines, header = content.split(b"\n"), None
    while lines and not lines[-1].strip():
        lines.pop()
    if file.suffix == ".tsv":
        if headless:
            header = list(headless)
        elif lines:
            header = [name.strip() for name in lines[0].decode("utf-8", "replace").rstrip("\r").split("\t")]
            _check_header(file, header, needed, index)
    first_row = 1 if header and not headless else 0
    for number, line in enumerate(lines[first_row:], start=first_row + 1):
        try:
            fields: dict[str, Any] | RowError = _fields(line, header)
        except RowError as error:
            fields = error
        yield number, fields


def _comma_separated(file: Path, content: bytes, needed: Sequence[str]) -> Records:
    """Read CSV: a cell may be quoted, and hold line breaks then; a row has the line where it begins."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}:{line}: not UTF-8: {error.reason}; {ENCODING}") from None
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader, line, header = csv.reader(io.StringIO(text.rstrip(), newline=""), strict=True), 1, None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{file}:{line}: not CSV: {error}; is a quote not closed, or not doubled?") from None
        if cells is None:
            return
        if header is None:
            header = [name.strip() for name in cells]
            _check_header(file, header, needed)
        elif not any(cells) and len(cells) < 2:
            yield line, RowError("a blank line; remove it", broken=True)
        elif len(cells) != len(header):
            yield line, RowError(f"expected {len(header)} columns, got {len(cells)}", broken=True)
        else:
            yield line, dict(zip(header, cells, strict=True))
        line = reader.line_num + 1


def _parquet(file: Path, needed: Sequence[str]) -> Records:
    """Read Parquet, as far as its columns are needed; rows are numbered from 1."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{file}: Parquet needs one more package: pip install pyarrow") from None
    try:
        opened = parquet.ParquetFile(file)
        header = list(opened.schema_arrow.names)
        _check_header(file, header, needed)
        table = opened.read(columns=list(needed) or None).to_pylist()
    except Exception as error:  # a damaged file can raise any of Python's
        told = str(file) in str(error)
        raise ValueError(first_line(error) if told else f"{file}: not Parquet: {first_line(error)}") from None
    yield from enumerate(table, start=1)


def _check_header(file: Path, header: Sequence[str], needed: Sequence[str], index: str | None = None) -> None:
    """Refuse a header that lacks a column, or names one twice."""
    if missing := [name for name in needed if name not in header]:
        cure = "; are its cells separated by semicolons? Commas are needed" if ";" in "".join(header) else ""
        what = f"missing column {', '.join(missing)}; the header has {', '.join(header)}"
        raise ValueError(f"{file}:1: {what}{cure if file.suffix == '.csv' else ''}")
    if twice := [name for name in (*needed, index) if header.count(str(name)) > 1]:
        raise ValueError(f"{file}:1: the column {twice[0]} stands twice; which one is meant? Remove the other")


def _is_quoted(row: Row) -> bool:
    """Whether a text looks as CSV writes one that has quotes in it."""
    return any(text[:1] == text[-1:] == '"' and '""' in text[1:-1] for text in row.text)


def same_text(text: Sequence[str]) -> tuple[str, ...]:
    """Spell texts so that those are equal that differ in case and blanks alone."""
    return tuple(" ".join(each.split()).casefold() for each in text)


def _held_out(file: Path, rows: list[Row], share: float, seed: int) -> set[int]:
    """Draw the numbers of the rows that are held out; equal texts stay together, on one side."""
    import numpy as np

    groups: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(same_text(row.text), []).append(number)
    if len(groups) < 2:
        raise ValueError(f"{file}: all rows have the same text: none can be held out")
    wanted, held, members = min(max(1, round(share * len(rows))), len(rows) - 1), set[int](), list(groups.values())
    order = np.random.default_rng(seed).permutation(len(members)).tolist()
    small = [number for number in order if len(members[number]) <= wanted]
    for number in small or order[:1]:
        if not held or len(held) + len(members[number]) <= wanted:
            held.update(members[number])
    return held


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
        raise RowError(f"not UTF-8: {error.reason} at byte {error.start}; {ENCODING}") from None
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
            kind = "" if text is None else f"; there is a {type(text).__name__}, not a string"
            raise RowError(f"missing text {name!r}{kind}", broken=True)
        if not text.strip() and (labelled or not task.skip_broken):
            raise RowError(f"empty text {name!r}", broken=True)
        if has_half_characters(text):
            raise RowError(f"text {name!r} holds half of a surrogate pair, which is no character")
        texts.append(text)
    label = fields.get(task.label)
    if labelled and task.no_label is not None and label == task.no_label:
        return None
    return Row(str(fields.get(task.index or "", number)), tuple(texts), _label(task, label) if labelled else None)


def has_half_characters(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which JSON can spell and no tokenizer reads."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def label_words(label: object, multi: bool) -> list[str]:
    """Spell a label of a file; of a task of several, the list, or the string that has `|` between them."""
    if not multi:
        return [str(label).lower() if isinstance(label, bool) else str(label)]
    if isinstance(label, list):
        return [label_words(each, False)[0] for each in label]
    return [word for part in str(label).split(SEVERAL) if (word := part.strip())]


def _label(task: Task, label: object) -> float | tuple[float, ...]:
    """Turn a label of the file into a class number, a score, or a 1 or 0 for each of several labels."""
    if label is None:
        raise RowError(f"missing label {task.label!r}", broken=True)
    words = label_words(label, task.multi)
    if not task.regression:
        for word in words:
            if word not in task.labels:
                known = ", ".join(task.labels[:20]) + (", .." if len(task.labels) > 20 else "")
                new = ", which are those of the training rows; labels: in the task file can name more"
                new = new if task.files else ""
                raise RowError(f"unknown label {word!r}; expected one of {known}{new}", broken=not word)
        if task.multi:
            return tuple(float(name in words) for name in task.labels)
        return float(task.labels.index(words[0]))
    word = words[0]
    low, high = task.score_range
    try:
        score = float(word)
    except ValueError:
        raise RowError(f"the score {word!r} is not a number") from None
    if not low <= score <= high:
        raise RowError(f"the score {word} is not in {low:g}..{high:g}")
    return score
