"""Word vectors in GloVe's text format: a word and its numbers a line, separated by blanks.

Read in one pass that keeps only what is wanted. The dimension follows the file; there may be a header as word2vec
writes it (number of words, dimension). Departures from the released code: a word may hold blanks, since a line is split
from the right; the unknown word and the mask token have rows of their own near the other vectors (not uniform in
[0, 1), which is far from them); numbers are float32.
"""

import itertools
import logging
from array import array
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fine_tune.files import fault, write_whole
from fine_tune.tasks.rows import foreign_kind

logger = logging.getLogger(__name__)

PADDING, UNKNOWN, MASK, FIRST_WORD = 0, 1, 2, 3
"""Rows of the matrix of a model."""
SAMPLE = 100
"""Lines that are looked at to learn the dimension; their numbers are checked even if nobody wants them."""
BAD_SHARE = 0.01
"""Share of lines that may be malformed."""
AGAIN = "fetch it again, say by bash scripts/prepare_glove.sh"


class Vectors(NamedTuple):
    """Words and their vectors.

    Attributes:
        words: In the order of the file.
        vectors: float32, (words, dimension).
        dimension: Numbers of a word.
        skipped: Malformed lines of the file.
    """

    words: list[str]
    vectors: np.ndarray
    dimension: int
    skipped: int


def read_vectors(file: Path, wanted: Container[str] | None = None) -> Vectors:
    """Read the vectors of the `wanted` words, or of all; the first of two rows of a word wins.

    The numbers of other words are not looked at, only counted. Malformed lines are skipped with a warning.

    Raises:
        ValueError: It is no such file, it was cut off, or more than 1 % of its lines are malformed.
        FileNotFoundError: It is not there.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there; bash scripts/prepare_glove.sh fetches word vectors")
    if problem := fault(file):
        raise ValueError(problem)
    words: dict[str, None] = {}
    numbers, read, skipped, first_fault, line = array("f"), 0, 0, "", b""
    with file.open("rb") as handle, np.errstate(over="ignore"):
        start = list(itertools.islice(handle, SAMPLE))
        start[0] = start[0].removeprefix(b"\xef\xbb\xbf")
        promised, dimension = layout(file, start)
        for number, content in enumerate(itertools.chain(start, handle), start=1):
            if not content.strip() or (promised and number == 1):
                continue
            read, last, line = read + 1, number, content
            try:
                word, row = parse(line, dimension, None if number <= SAMPLE else wanted)
            except ValueError as error:
                skipped += 1
                first_fault = first_fault or f"{file}:{number}: {error}"
                continue
            if row is not None and word not in words and (wanted is None or word in wanted):
                words[word] = None
                numbers.frombytes(row.tobytes())
    if read < promised:
        raise ValueError(f"{file}:{last}: it ends here, after {read} of the {promised} words of its header; {AGAIN}")
    if cut_off(line, dimension):
        raise ValueError(f"{file}:{last}: it ends in the middle of a line; {AGAIN}")
    if skipped > BAD_SHARE * read:
        raise ValueError(
            f"{first_fault}; so are {skipped} of {read} lines, too many for a file of word vectors; {AGAIN}"
        )
    if skipped:
        logger.warning("%s; %d of %d lines are malformed and were skipped", first_fault, skipped, read)
    return Vectors(list(words), np.frombuffer(numbers, np.float32).reshape(-1, dimension), dimension, skipped)


def layout(file: Path, start: Sequence[bytes]) -> tuple[int, int]:
    """Tell the number of words that a header promises (0: there is none) and the dimension from the first lines.

    Raises:
        ValueError: The file is something else.
    """
    if kind := foreign_kind(b"".join(start)):
        raise ValueError(f"{file}: {kind}; a UTF-8 text file with a word and its numbers a line is needed")
    header = start[0].split()
    promised = int(header[0]) if len(header) == 2 and all(map(bytes.isdigit, header)) else 0
    counts = Counter(line.rstrip().count(b" ") for line in start[bool(promised) :] if line.strip())
    dimension = max(counts, key=counts.__getitem__, default=0)
    if not dimension:
        raise ValueError(f"{file}:1: not a word and its numbers, separated by blanks")
    if promised and dimension != int(header[1]):
        raise ValueError(f"{file}:1: the header says {int(header[1])} numbers a word, the lines have {dimension}")
    return promised, dimension


def parse(line: bytes, dimension: int, wanted: Container[str] | None) -> tuple[str, np.ndarray | None]:
    """Split a line into its word and, if the word is wanted (None: any), its numbers.

    Raises:
        ValueError: The line is malformed.
    """
    line = line.rstrip()
    blanks = line.count(b" ")
    name, *numbers = line.split(b" ", 1) if blanks == dimension else line.rsplit(b" ", dimension)
    if blanks < dimension or (blanks > dimension and is_number(name.rpartition(b" ")[2])):
        raise ValueError(f"{blanks} numbers, not {dimension}")
    if not name.strip(b" "):
        raise ValueError("no word")
    try:
        word = name.decode()
    except UnicodeDecodeError:
        raise ValueError("the word is not UTF-8") from None
    if wanted is not None and word not in wanted:
        return word, None
    fields = numbers[0].split(b" ") if blanks == dimension else numbers
    try:
        row = np.array(list(map(float, fields)), dtype=np.float32)
    except ValueError:
        raise ValueError(f"not {dimension} numbers") from None
    if not np.isfinite(row).all():
        raise ValueError("a number is not finite")
    return word, row


def is_number(text: bytes) -> bool:
    """Tell whether this may be a number of a vector."""
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def cut_off(line: bytes, dimension: int) -> bool:
    """Tell whether the last line looks like one whose rest is missing."""
    if line.rstrip().count(b" ") < dimension:
        return True
    try:
        parse(line, dimension, None)
    except ValueError:
        return not line.endswith(b"\n")
    return False


def write_vectors(file: Path, words: Sequence[str], matrix: np.ndarray) -> None:
    """Write vectors in GloVe's text format, whole or not at all; reading them gives the same float32.

    Raises:
        ValueError: Words and rows do not belong together, or cannot be written in the format.
        OSError: It cannot be written.
    """
    matrix = np.asarray(matrix, dtype=np.float32)
    if matrix.ndim != 2 or len(words) != len(matrix) or not np.isfinite(matrix).all():
        raise ValueError(f"{file}: {len(words)} words need as many rows of finite numbers, got shape {matrix.shape}")
    if bad := [word for word in words if not word or " " in word or "\n" in word]:
        raise ValueError(f"{file}: the word {bad[0]!r} is empty or holds a blank or line end; it cannot be written")

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="\n") as out:
            for word, row in zip(words, matrix, strict=True):
                out.write(f"{word} {' '.join(row.astype(str))}\n")

    write_whole(file, write)


def matrix_for(words: Sequence[str], vectors: Vectors, seed: int) -> np.ndarray:
    """Make the matrix of a model's word embedding: padding, unknown word, mask token, then `words`.

    Args:
        words: Each of `vectors`, in the order of the ids that they get from 3 on; without the special tokens, which a
            file may hold as well.
        vectors: What was read.
        seed: Of the mask token's row.

    Returns:
        float32, (3 + words, dimension): zeros; the mean of the vectors; a draw from a normal distribution with their
        mean and deviation.

    Raises:
        ValueError: A word has no vector.
    """
    position = {word: index for index, word in enumerate(vectors.words)}
    if lacking := [word for word in words if word not in position]:
        raise ValueError(f"no vector of {lacking[0]!r}, nor of {len(lacking) - 1} more words")
    matrix = np.zeros((FIRST_WORD + len(words), vectors.dimension), dtype=np.float32)
    if vectors.words:
        mean, deviation = vectors.vectors.mean(0, np.float64), vectors.vectors.std(0, np.float64)
        matrix[UNKNOWN] = mean
        matrix[MASK] = np.random.default_rng(seed).normal(mean, deviation)
        matrix[FIRST_WORD:] = vectors.vectors[[position[word] for word in words]]
    return matrix
