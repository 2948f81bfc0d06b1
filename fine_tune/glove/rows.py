"""The text files of the GloVe document: `sentence<TAB>label` in, ids and predictions out.

A label is a word, or C logits with blanks between them; a file has labels of one kind. Departures from the document's
code: no quoting (a quote is a character), empty sentences are refused instead of shifting the lines of predictions.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fine_tune.files import fault, write_text

LABELS = "label.txt"


class Rows(NamedTuple):
    """Rows of a file.

    Attributes:
        file: The file.
        texts: One or two texts a row.
        labels: As they are written.
    """

    file: Path
    texts: list[tuple[str, ...]]
    labels: list[str]


def read_rows(file: Path, make: str = "") -> Rows:
    """Read a file of rows.

    Args:
        file: The file.
        make: Command that makes it, for the message where it is not there.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: `file:line: reason` for the first row that cannot be used.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there{'; make it with: ' * bool(make)}{make}")
    if why := fault(file):
        raise ValueError(why)
    texts: list[tuple[str, ...]] = []
    labels: list[str] = []
    for number, line in numbered_lines(file):
        *text, label = line.rstrip("\r").split("\t")
        if len(text) not in (1, 2):
            raise ValueError(f"{file}:{number}: expected sentence<TAB>label, got {len(text)} TABs")
        if not all(part.strip() for part in text) or not label.strip():
            raise ValueError(f"{file}:{number}: the {'label' if all(map(str.strip, text)) else 'text'} is empty")
        if texts and len(text) != len(texts[0]):
            raise ValueError(f"{file}:{number}: {len(text)} texts, but {len(texts[0])} in the rows before it")
        texts.append(tuple(text))
        labels.append(label.strip())
    if not texts:
        raise ValueError(f"{file} has no rows")
    return Rows(file, texts, labels)


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number the lines of a UTF-8 file from 1; only a line feed ends one.

    Raises:
        ValueError: `file:line: reason`.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{file}:{number}: not UTF-8: {error.reason}; save the file as UTF-8") from None


def is_soft(labels: Sequence[str]) -> bool:
    """Whether labels are logits."""
    return " " in labels[0]


def label_names(rows: Rows) -> list[str]:
    """List the classes of gold labels in order of their first appearance.

    Raises:
        ValueError: The labels are logits, or there is one class only.
    """
    if is_soft(rows.labels):
        raise ValueError(f"{rows.file}:1: logits; classes are named by gold labels")
    names = list(dict.fromkeys(rows.labels))
    if len(names) < 2:
        raise ValueError(f"{rows.file}: every label is {names[0]}; a classifier needs two")
    return names


def write_labels(file: Path, names: Sequence[str]) -> None:
    """Write `label.txt`: `label<SPACE>id`."""
    write_text(file, "".join(f"{name} {number}\n" for number, name in enumerate(names)))


def read_labels(file: Path) -> list[str]:
    """Read `label.txt`.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: `file:line: reason`.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; make it with: python preprocess.py")
    names: list[str] = []
    for number, line in numbered_lines(file):
        name, _, index = line.rstrip("\r").rpartition(" ")
        if not name or index != str(len(names)):
            raise ValueError(f"{file}:{number}: expected `label {len(names)}`, got {line!r}")
        names.append(name)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"{file}: {len(names)} labels, {len(set(names))} of them different; a classifier needs two")
    return names


def targets(file: Path, labels: Sequence[str], names: Sequence[str]) -> NDArray[np.int64] | NDArray[np.float32]:
    """Turn labels into class numbers (N,), or into logits (N, C).

    Raises:
        ValueError: `file:line: reason`: another class, another number of logits, both kinds in one file.
    """
    if not is_soft(labels):
        number_of = {name: number for number, name in enumerate(names)}
        for line, label in enumerate(labels, start=1):
            if label not in number_of:
                what = "logits among gold labels" if " " in label else f"unknown label {label!r}"
                raise ValueError(f"{file}:{line}: {what}; {LABELS} has {', '.join(names)}")
        return np.array([number_of[label] for label in labels])
    found = np.empty((len(labels), len(names)), np.float32)
    for line, label in enumerate(labels, start=1):
        words = label.split(" ")
        try:
            logits = [float(word) for word in words]
        except ValueError:
            raise ValueError(f"{file}:{line}: {label[:60]!r} among logits") from None
        if len(logits) != len(names):
            what = "a gold label among logits" if len(logits) == 1 else f"{len(logits)} logits"
            raise ValueError(f"{file}:{line}: {what}, but {LABELS} has {len(names)} labels")
        if not all(map(np.isfinite, logits)):
            raise ValueError(f"{file}:{line}: logits that are not finite: {label[:60]}")
        found[line - 1] = logits
    return found


def logit_words(logits: Iterable[float]) -> str:
    """Write logits as a label: six decimals, one blank between."""
    return " ".join(f"{value:.6f}" for value in logits)
