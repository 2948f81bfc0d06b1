"""Rows as token ids: `.ids` for networks on word vectors, text; `.fs` for transformers, arrays that are memory-mapped.

Departures from the document's code: `.fs` holds flat arrays that torch reads without running code, not pickled objects;
sentences are cut whole, by the model's tokenizer. What a file was made from stands in it or beside it, and is checked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from fine_tune.data.tokens import TOKENIZE_AT_ONCE, Split
from fine_tune.files import first_line, write_whole
from fine_tune.glove.rows import Rows, numbered_lines
from fine_tune.tasks.table import Task

MADE_FROM = "glove.json"
"""Beside `.ids`: the digests of vocabulary and vectors."""
ARRAYS = ("input_ids", "token_type_ids", "offsets", "label")


def encode(rows: Rows, tokenizer: PreTrainedTokenizerFast, n_ctx: int) -> Iterator[tuple[list[int], list[int]]]:
    """Give the token ids and segments of every row, cut at `n_ctx` tokens."""
    for at in range(0, len(rows.texts), TOKENIZE_AT_ONCE):
        columns = [list(column) for column in zip(*rows.texts[at : at + TOKENIZE_AT_ONCE], strict=True)]
        made = tokenizer(*columns, truncation=True, max_length=n_ctx, padding=False, return_token_type_ids=True)
        yield from zip(made["input_ids"], made["token_type_ids"], strict=True)


def write_ids(file: Path, rows: Rows, labels: Sequence[object], tokenizer: PreTrainedTokenizerFast, n_ctx: int) -> int:
    """Write `y<TAB>id id ..`, every row padded to `n_ctx` ids; give the number of unknown words.

    Args:
        file: The file.
        rows: The rows, of one text each.
        labels: Class numbers, or logits as they are written.
        tokenizer: Of words.
        n_ctx: Ids a row.
    """
    unknown = 0

    def write(part: Path) -> None:
        nonlocal unknown
        padding = [" 0" * count for count in range(n_ctx + 1)]
        with part.open("w", encoding="utf-8", newline="\n") as lines:
            for label, (ids, _) in zip(labels, encode(rows, tokenizer, n_ctx), strict=True):
                known = [token or tokenizer.unk_token_id for token in ids]  # the text may hold the word <pad>
                unknown += known.count(tokenizer.unk_token_id)
                lines.write(f"{label}\t{' '.join(map(str, known))}{padding[n_ctx - len(ids)]}\n")

    write_whole(file, write)
    return unknown


def read_ids(file: Path, num_class: int, words: int, n_ctx: int) -> dict[str, NDArray[Any]]:
    """Read `.ids` without its padding: `input_ids`, `offsets`, `label`.

    Args:
        file: The file.
        num_class: C.
        words: Size of the vocabulary.
        n_ctx: Ids a row.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: `file:line: reason`.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; make it with: python preprocess.py")
    ids: list[NDArray[np.int32]] = []
    labels: list[list[float]] = []
    for number, line in numbered_lines(file):
        label, _, row = line.partition("\t")
        end = at if (at := (row + " ").find(" 0 ")) >= 0 else len(row)
        real = row[:end].split(" ")
        if row.count(" ") + 1 != n_ctx or row[end:] != " 0" * (n_ctx - len(real)):
            raise ValueError(f"{file}:{number}: expected a label, a TAB and {n_ctx} ids, padding last")
        try:
            ids.append(np.array(real, np.int32))
            labels.append([float(word) for word in label.split(" ")])
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{file}:{number}: {first_line(error)}") from None
        if len(labels[-1]) != len(labels[0]):
            raise ValueError(f"{file}:{number}: {len(labels[-1])} numbers as label, {len(labels[0])} before it")
    if not ids:
        raise ValueError(f"{file} has no rows")
    flat = np.concatenate(ids)
    if flat.min() < 1 or flat.max() >= words:
        worst = int(flat.max() if flat.max() >= words else flat.min())
        raise ValueError(f"{file}: id {worst}, but the vocabulary has ids up to {words - 1}; preprocess anew")
    given: NDArray[Any] = np.array(labels)
    if not np.isfinite(given).all():
        raise ValueError(f"{file}: labels that are not finite; preprocess anew")
    if given.shape[1] == 1:
        gold = given[:, 0].astype(np.int64)
        if (gold != given[:, 0]).any() or gold.min() < 0 or gold.max() >= num_class:
            raise ValueError(f"{file}: labels must be class numbers up to {num_class - 1}; preprocess anew")
        given = gold
    elif given.shape[1] != num_class:
        raise ValueError(f"{file}: {given.shape[1]} logits a row, but there are {num_class} classes; preprocess anew")
    offsets = np.cumsum([0, *map(len, ids)])
    given = given.astype(np.float32) if given.ndim == 2 else given
    return {"input_ids": flat, "token_type_ids": np.zeros(len(flat), np.uint8), "offsets": offsets, "label": given}


def write_features(
    file: Path, rows: Rows, label: NDArray[Any] | None, tokenizer: PreTrainedTokenizerFast, n_ctx: int, about: str
) -> None:
    """Write `.fs`: the arrays of a `Split`, and what they were made from.

    Args:
        file: The file.
        rows: The rows.
        label: (N,) classes or (N, C) logits; None where rows have none.
        tokenizer: The model's.
        n_ctx: Tokens a row at most.
        about: What readers must find in it, see `read_features`.
    """
    ids, types = [], []
    for row, segments in encode(rows, tokenizer, n_ctx):
        ids.append(np.array(row, np.int32))
        types.append(np.array(segments, np.uint8))
    arrays: dict[str, Any] = {
        "input_ids": np.concatenate(ids),
        "token_type_ids": np.concatenate(types),
        "offsets": np.cumsum([0, *map(len, ids)]),
    }
    arrays |= {} if label is None else {"label": label}
    made = {name: torch.from_numpy(array) for name, array in arrays.items()} | {"about": about}
    write_whole(file, partial(torch.save, made))


def read_features(file: Path, about: str, make: str) -> dict[str, NDArray[Any]]:
    """Read `.fs`, memory-mapped.

    Args:
        file: The file.
        about: What it has to be made from.
        make: Command that makes it.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, or was made from something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; make it with: {make}")
    try:
        found = torch.load(file, mmap=True, weights_only=True)
        arrays = {name: found[name].numpy() for name in ARRAYS if name in found}
        made, ends = json.loads(found["about"]), arrays["offsets"]
        assert len(arrays["input_ids"]) == len(arrays["token_type_ids"]) == ends[-1] and ends[0] == 0
        assert (np.diff(ends) > 0).all()
    except Exception as error:  # torch.load raises half a dozen types for a damaged file
        raise ValueError(f"{file}: damaged ({first_line(error)}); make it anew with: {make}") from None
    for name, value in json.loads(about).items():
        if made.get(name) != value:
            raise ValueError(
                f"{file}: was made with {name} {made.get(name)}, needed is {value}; make it anew with: {make}"
            )
    return arrays


def as_split(arrays: Mapping[str, NDArray[Any]], task: Task, name: str, pad_id: int, n_ctx: int, key: str) -> Split:
    """Give arrays as a split of a task."""
    count = len(arrays["offsets"]) - 1
    return Split(
        task=task, name=name, row_id=np.arange(1, count + 1).astype(str), label=arrays.get("label"),
        input_ids=arrays["input_ids"], token_type_ids=arrays["token_type_ids"], offsets=arrays["offsets"],
        pad_id=pad_id, max_seq_len=n_ctx, key=key,
    )  # fmt: skip
