"""Text to tokens: a split is tokenised once per (content of its file, tokenizer, max_seq_len) and cached.

The cache holds flat arrays, which are memory-mapped. Shapes: B batch, S tokens.

Departure from the released code, which tokenises twice per step.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fine_tune.files import digest, fill_folder, first_line
from fine_tune.hardware import distributed
from fine_tune.hub import TOKENIZER, folder_fault, located, missing
from fine_tune.path import cache_dir
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import AUGMENTED, Task

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raise when what the cache holds, or how rows are read, changes."""
TOKENIZE_AT_ONCE = 8192
SUSPICIOUS = 0.02
"""Warn where this share of the tokens is unknown."""
TOLD: set[tuple[str, Path]] = set()
"""Splits of which this process has said where their rows are from."""


Inputs = dict[str, Tensor | None]
"""Arguments of a model, (B, S) each; `attention_mask` is None where there is no padding."""


@dataclass
class Split:
    """A tokenised split; row i has the tokens `input_ids[offsets[i]:offsets[i + 1]]`.

    Attributes:
        task: Its task.
        name: Name of the split.
        row_id: (N,) the official index of each row, or its number in the file.
        label: (N,) class numbers, or scores, or (N, C) of 1 and 0 where several labels may hold; None where there are
            none.
        input_ids: Flat token ids.
        token_type_ids: Flat segment numbers.
        offsets: (N + 1,).
        pad_id: Token id of padding.
        max_seq_len: Tokens of a row at most.
        key: Name that stands for its content, tokenizer and length limit.
    """

    task: Task
    name: str
    row_id: NDArray[np.str_]
    label: NDArray[Any] | None
    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    pad_id: int
    max_seq_len: int
    key: str

    def __len__(self) -> int:
        return len(self.row_id)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each row."""
        return np.diff(self.offsets)

    def token_index(
        self, rows: NDArray[np.int64], width: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find the tokens of some rows: numbers (B, S) in the flat arrays, 0 for padding, and which are real."""
        start = self.offsets[rows][:, None]
        length = self.offsets[rows + 1][:, None] - start
        column = np.arange(width or length.max())[None, :]
        real = column < length
        return np.where(real, start + column, 0), real

    def inputs(self, rows: NDArray[np.int64], pad_to: int | None = None) -> Inputs:
        """Make the model's inputs (B, S) of some rows, padded to their longest, or to `pad_to` tokens."""
        index, real = self.token_index(rows, pad_to)
        return {
            "input_ids": torch.from_numpy(np.where(real, self.input_ids[index], self.pad_id).astype(np.int64)),
            "attention_mask": None if real.all() else torch.from_numpy(real.astype(np.float32)),
            "token_type_ids": torch.from_numpy(np.where(real, self.token_type_ids[index], 0).astype(np.int64)),
        }


def load_tokenizer(name: str, flag: str = "--ptrain_ver", **settings: Any) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer from a hub name or a local folder.

    Args:
        name: Its name.
        flag: The flag that could name another.
        settings: Settings of the library that replace the folder's own.

    Raises:
        ValueError: There is none within reach.
    """
    source, options = located(name)
    if (folder := Path(source)).is_dir() and (fault := folder_fault(folder, TOKENIZER)):
        raise ValueError(f"no tokenizer {name!r}: {fault}; name one with {flag}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, **options, **settings)
    except Exception as error:  # a damaged file can raise any of Python's
        raise ValueError(f"no tokenizer {name!r}: {missing(name, error, TOKENIZER)}; name one with {flag}") from None
    if not tokenizer.is_fast:
        raise ValueError(f"the tokenizer of {name!r} has no fast version")
    return tokenizer


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash everything that decides how a tokenizer cuts text; its stored padding and truncation do not."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings.update(padding=None, truncation=None)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def same_tokens(one: PreTrainedTokenizerFast, other: PreTrainedTokenizerFast) -> bool:
    """Whether two tokenizers cut text alike."""
    return one is other or fingerprint(one) == fingerprint(other)


def load_split(task: Task, name: str, tokenizer: PreTrainedTokenizerFast, max_seq_len: int) -> Split:
    """Read a tokenised split from the cache, which is filled first where it has none.

    Raises:
        ValueError: A row cannot be used, see `task.read_split`.
        FileNotFoundError: The data is not there.
    """
    what = [FORMAT, repr(task), name, digest(task.file(name)), fingerprint(tokenizer), max_seq_len]
    what += task.hidden()
    folder = cache_dir() / f"{task.name}-{name}-{hashlib.sha256(' '.join(map(str, what)).encode()).hexdigest()[:20]}"
    with distributed.main_first():
        fill_cache(folder, task, name, tokenizer, max_seq_len)
    facts: dict[str, Any] = {"pad_id": tokenizer.pad_token_id, "max_seq_len": max_seq_len, "key": folder.name}
    with reading_cache(folder):
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}
        label = arrays.pop("label", None)
        split = Split(task=task, name=name, label=label, **facts, **arrays)
    if (told := (name, task.file(name))) not in TOLD:
        TOLD.add(told)
        tell(split, tokenizer)
    return split


def tell(split: Split, tokenizer: PreTrainedTokenizerFast) -> None:
    """Say where rows are from, what share of their tokens is unknown; if it is large, warn, with the likely cause."""
    share = unknown_share(split, tokenizer)
    known = f"{share:.2%} of the tokens unknown to the tokenizer" if share else "all tokens known"
    logger.info("%s %s: %d rows of %s, %s", split.task.name, split.name, len(split), split.task.file(split.name), known)
    if share > SUSPICIOUS:
        why = why_unknown(tokenizer)
        logger.warning("%s %s: %.1f %% of the tokens are unknown: %s", split.task.name, split.name, 100 * share, why)


def unknown_share(split: Split, tokenizer: PreTrainedTokenizerFast) -> float:
    """Share of a split's tokens that are the tokenizer's token for what it does not know."""
    return float(np.mean(split.input_ids == tokenizer.unk_token_id)) if tokenizer.unk_token_id is not None else 0.0


def why_unknown(tokenizer: PreTrainedTokenizerFast) -> str:
    """Name the likely cause of unknown tokens."""
    if not lowers(tokenizer) and not capital_share(tokenizer):
        return "the tokenizer keeps capitals, but its vocabulary has none; should do_lower_case be true?"
    return "is the tokenizer the model's, and are the rows in its language?"


def lowers(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a tokenizer lower-cases text before it cuts it."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("A") == "a"


def capital_share(tokenizer: PreTrainedTokenizerFast) -> float:
    """Share of the vocabulary that has capitals."""
    words = [word.lstrip("\u0120\u2581") for word in tokenizer.get_vocab() if word[:1] not in "[<"]  # marks of a blank
    return float(np.mean([word != word.lower() for word in words]))


@contextlib.contextmanager
def reading_cache(folder: Path) -> Iterator[None]:
    """Turn what damaged files of a cache raise inside into one line.

    Raises:
        ValueError: They are; the message names the folder to delete.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, EOFError) as error:
        raise ValueError(f"{folder}: a damaged cache ({first_line(error)}); delete it, it is filled anew") from None


def load_labelled(task: Task, name: str, tokenizer: PreTrainedTokenizerFast, max_seq_len: int) -> Split:
    """Read a split to train on, see `load_split`; augmented rows are the only ones without labels.

    Raises:
        ValueError: It has no labels.
    """
    split = load_split(task, name, tokenizer, max_seq_len)
    if split.label is None and name != AUGMENTED:
        raise ValueError(f"--dataset {name}: this split of {task.name} has no labels to train on")
    return split


def fill_cache(folder: Path, task: Task, name: str, tokenizer: PreTrainedTokenizerFast, max_seq_len: int) -> None:
    """Tokenise a split into its folder of the cache, if that is not there."""

    def fill(building: Path) -> None:
        for key, array in tokenize(task, name, tokenizer, max_seq_len).items():
            np.save(building / f"{key}.npy", array)

    if not folder.is_dir():
        fill_folder(folder, fill)


def tokenize(task: Task, name: str, tokenizer: PreTrainedTokenizerFast, max_seq_len: int) -> dict[str, NDArray[Any]]:
    """Tokenise a split; a pair is shortened at its longer half first."""
    rows = read_split(task, name)
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.uint8]] = []
    lengths: list[int] = []
    for at in range(0, len(rows), TOKENIZE_AT_ONCE):
        columns = [list(column) for column in zip(*(row.text for row in rows[at : at + TOKENIZE_AT_ONCE]), strict=True)]
        encoded = tokenizer(
            *columns, truncation=True, max_length=max_seq_len, padding=False, return_token_type_ids=True
        )
        ids += [np.array(tokens, np.int32) for tokens in encoded["input_ids"]]
        types += [np.array(segments, np.uint8) for segments in encoded["token_type_ids"]]
        lengths += [len(tokens) for tokens in encoded["input_ids"]]
    arrays = {
        "row_id": np.array([row.id for row in rows]),
        "input_ids": np.concatenate(ids),
        "token_type_ids": np.concatenate(types),
        "offsets": np.cumsum([0, *lengths]),
    }
    if task.is_labelled(name):
        arrays["label"] = np.array([row.label for row in rows], np.int64 if task.kind == "single" else np.float32)
    return arrays
