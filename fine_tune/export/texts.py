"""Texts to predict, read row by row and answered window by window, so that a file may have any size.

A `.csv` file has quotes and a header, a `.tsv` file has a header and no quoting, as GLUE's; a `.jsonl` or `.json` file
has an object a line. `.txt` files and standard input have a text a line, and a tab between the two texts of a pair.
"""

import contextlib
import csv
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

from fine_tune.export.lean import MULTI, REGRESSION, About, Answer, Model
from fine_tune.files import write_whole
from fine_tune.tasks.rows import ENCODING, foreign_kind, has_half_characters

KINDS = (".csv", ".tsv", ".jsonl", ".json", ".txt")
STDIN = "-"
WINDOW = 1024
"""Rows that are held at a time, so that those of like length can share a batch."""
LONGEST = 2**31 - 1
"""Characters of a cell at most."""

Text = tuple[str, ...]


def open_input(name: str) -> IO[bytes]:
    """Open what is to be read; `-` is standard input.

    Raises:
        ValueError: It is no table or text that can be read.
        OSError: It is not there, or cannot be read.
    """
    if name == STDIN:
        return sys.stdin.buffer
    file = Path(name)
    if file.suffix not in KINDS:
        raise ValueError(f"--input {name}: a file in {', '.join(KINDS)} is needed, or - for standard input")
    if not file.is_file():
        raise FileNotFoundError(f"--input {name}: is not there")
    with file.open("rb") as handle:
        kind = foreign_kind(handle.read(4096) + b"\n")
    if kind:
        raise ValueError(f"--input {name}: {kind}; UTF-8 text is needed")
    return file.open("rb")


@contextlib.contextmanager
def progress(name: str) -> Iterator[Callable[[int], object]]:
    """Show how far a file is read, on standard error; gives what is to be told the bytes of every line."""
    if name == STDIN:
        yield int
        return
    from tqdm import tqdm  # imported here: standard input is answered at once

    with tqdm(total=Path(name).stat().st_size, unit="B", unit_scale=True, mininterval=1) as bar:
        yield bar.update


def window_of(handle: IO[bytes]) -> int:
    """Choose how many rows to hold: one of a pipe or a terminal, whose other end waits for answers."""
    return WINDOW if stat.S_ISREG(os.fstat(handle.fileno()).st_mode) else 1


def read_texts(
    handle: IO[bytes], name: str, columns: Sequence[str], told: Callable[[int], object] = int
) -> Iterator[Text]:
    """Read texts row by row.

    Args:
        handle: Open file.
        name: Its name, which says what it holds.
        columns: Columns with the text or the two texts, where it has named ones.
        told: Is told the bytes of every line.

    Raises:
        ValueError: `file:line: reason` for a row that cannot be used, or there is none.
    """
    name, named = "standard input" if name == STDIN else name, name != STDIN
    read = {".csv": of_csv, ".tsv": of_tsv, ".jsonl": of_jsonl, ".json": of_jsonl}.get(Path(name).suffix, of_lines)
    number, found = 0, False

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(handle, 1):
            told(len(line))
            yield line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode("utf-8")

    try:
        for texts in read(lines(), columns):
            for text in texts:
                if not text.strip():
                    raise ValueError("an empty text")
                if has_half_characters(text):
                    raise ValueError("half of a surrogate pair, which is no character")
            found = True
            yield texts
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}:{number}: not UTF-8: {error.reason} at byte {error.start}; {ENCODING}") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise ValueError(f"{name}:{number}: {error}") from None
    if not found and named:
        raise ValueError(f"{name}: no rows")


def picked(header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Find columns in a header.

    Raises:
        ValueError: One is missing, or stands twice.
    """
    for name in columns:
        if header.count(name) != 1:
            fault = "stands twice" if name in header else "is missing"
            raise ValueError(f"the column {name} {fault}; the header has {', '.join(header)}; --text names columns")
    return [header.index(name) for name in columns]


def of_cells(rows: Iterator[list[str]], columns: Sequence[str]) -> Iterator[Text]:
    """Pick the texts of a table whose first row is its header; lines without anything may only stand at its end."""
    header = next(rows, None)
    if header is None:
        return
    places, blank = picked([name.strip() for name in header], columns), False
    for cells in rows:
        if not any(cells):
            blank = True
            continue
        if blank:
            raise ValueError("blank lines stand before this one; remove them")
        if len(cells) != len(header):
            raise ValueError(f"expected {len(header)} columns, got {len(cells)}")
        yield tuple(cells[place] for place in places)


def of_csv(lines: Iterator[str], columns: Sequence[str]) -> Iterator[Text]:
    """Read a table with commas and quotes."""
    csv.field_size_limit(LONGEST)
    return of_cells(csv.reader(lines, strict=True), columns)


def of_tsv(lines: Iterator[str], columns: Sequence[str]) -> Iterator[Text]:
    """Read a table with tabs, in which a quote is a character."""
    return of_cells((line.rstrip("\r\n").split("\t") for line in lines), columns)


def of_jsonl(lines: Iterator[str], columns: Sequence[str]) -> Iterator[Text]:
    """Read an object a line."""
    for line in lines:
        if not line.strip():
            raise ValueError("a blank line; remove it")
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise ValueError(f"expected a JSON object, got {type(fields).__name__}")
        for name in columns:
            if not isinstance(fields.get(name), str):
                raise ValueError(
                    f"no text {name!r}; the object has {', '.join(fields) or 'nothing'}; --text names fields"
                )
        yield tuple(fields[name] for name in columns)


def of_lines(lines: Iterator[str], columns: Sequence[str]) -> Iterator[Text]:
    """Read a text a line, or two with a tab between them."""
    for line in lines:
        texts = tuple(line.rstrip("\r\n").split("\t")) if len(columns) > 1 else (line.rstrip("\r\n"),)
        if len(texts) != len(columns):
            raise ValueError(f"expected {len(columns)} texts with a tab between them, got {len(texts)}")
        yield texts


def answered(model: Model, texts: Iterator[Text], window: int) -> Iterator[list[Answer]]:
    """Answer texts, a window at a time."""
    while held := list(islice(texts, window)):
        yield model.answers(held)


def header(about: About) -> str:
    """Name the columns of a table of answers: the label, and the probability of every label; or the number alone."""
    names = [" ".join(name.split()) for name in about.labels]
    return "\t".join(names if about.kind == REGRESSION else ["label", *names]) + "\n"


def as_cells(answer: Answer, about: About) -> str:
    """Write an answer as a line of that table."""
    cells = [f"{value:.6f}" for value in answer.probabilities.values()]
    label = " ".join(answer.label.split())
    return "\t".join(cells if about.kind == REGRESSION else [label, *cells]) + "\n"


def as_object(answer: Answer, about: About) -> str:
    """Write an answer as a JSON object on a line."""
    if about.kind == REGRESSION:
        return json.dumps(answer.probabilities) + "\n"
    several = [name for name, value in answer.probabilities.items() if value >= 0.5]
    what = {"labels": several} if about.kind == MULTI else {"label": answer.label}
    return json.dumps({**what, "probabilities": answer.probabilities}, ensure_ascii=False) + "\n"


def send(answers: Iterable[list[Answer]], about: About, output: Path | None) -> None:
    """Write answers as they come: to standard output, or into a file, whole or not at all.

    Raises:
        ValueError: A row that is read meanwhile cannot be used.
        OSError: The file cannot be written.
    """
    if output:
        write_whole(output, lambda part: into_file(part, answers, about, output.suffix == ".jsonl"))
        return
    try:
        write_answers(sys.stdout, answers, about, False)
    except BrokenPipeError:  # whoever reads the answers has enough of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def into_file(part: Path, answers: Iterable[list[Answer]], about: About, objects: bool) -> None:
    """Write answers into a file."""
    with part.open("w", encoding="utf-8", newline="\n") as out:
        write_answers(out, answers, about, objects)


def write_answers(out: IO[str], answers: Iterable[list[Answer]], about: About, objects: bool) -> None:
    """Write answers as they come."""
    if not objects:
        out.write(header(about))
    for some in answers:
        out.writelines(as_object(each, about) if objects else as_cells(each, about) for each in some)
        out.flush()
