"""What a model says of every row of a split, in its run's folder, under the names of the BoolQ and MNLI documents.

| file | content |
|---|---|
| `<task>-distill.jsonl` | an object per row: `text`, `text_pair`, `label` (class number, or a list of some), `logits` |
| `logitsbank-<step>.pt` | `logitsbank`: (N, C) float32 |
| `membank<i>.pt` | `membank`: (N, D) float32, L2-normalised [CLS] states of layer i, 0-based |
| `membank.pt` | the same of the pooled output |

Row n is the n-th row that is trained on: MNLI's rows without a gold label are not counted. All are made of one `store`,
block by block. Beside the rows stands `about`: what they were made from.

Departures from the released code: banks hold a row per row, not a column; they say what they were made from; a file
made from something else is not replaced without being asked.
"""

import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fine_tune.data.tokens import Split
from fine_tune.files import digest, first_line, read_json, write_json, write_whole
from fine_tune.hardware.rank import is_main
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import Loaded
from fine_tune.tasks.rows import read_split
from fine_tune.teacher.store import GB, Store, array, check_room

logger = logging.getLogger(__name__)

BLOCK = 16384
"""Rows in memory at once."""


def logits_bank(loaded: Loaded) -> Path:
    """Name the bank of a model's logits."""
    return loaded.folder / f"logitsbank-{loaded.step}.pt"


def layer_bank(loaded: Loaded, layer: int) -> Path:
    """Name the bank of a model's [CLS] states after a 0-based layer."""
    return loaded.folder / f"membank{layer}.pt"


def pooled_bank(loaded: Loaded) -> Path:
    """Name the bank of a model's pooled output."""
    return loaded.folder / "membank.pt"


def made_from(loaded: Loaded, rows: Split) -> dict[str, Any]:
    """Say what outputs are made from; two files whose answers agree hold the same."""
    return {
        "run": loaded.folder.name,
        "checkpoint": loaded.step,
        "checkpoint_sha256": digest(loaded.checkpoint),
        "task": rows.task.name,
        "split": rows.name,
        "rows": len(rows),
        "tokens": rows.key,
        "width": loaded.model.width,
        "precision": str(loaded.model.product_dtype).removeprefix("torch."),
    }


def is_there(file: Path, about: dict[str, Any], overwrite: bool) -> bool:
    """Whether a file was made from the same already; one that was not is replaced only if that is asked for.

    Raises:
        ValueError: It was not, and it is not; both sides are named.
    """
    if not file.is_file():
        return False
    was, now = unlike(about_of(file), about)
    if was and not overwrite:
        raise ValueError(f"{file} was made from {was}; now it would be {now}; replace it with --overwrite")
    return not was


def unlike(found: dict[str, Any], wanted: dict[str, Any], free: tuple[str, ...] = ()) -> tuple[str, str]:
    """Say in what, beside what is `free`, two things are not made from the same: one side, the other; "" if in none."""
    keys = [key for key, value in wanted.items() if found.get(key) != value and key not in free]
    was, now = (", ".join(f"{key} {of.get(key, 'unknown')}" for key in keys) for of in (found, wanted))
    return was, now


def about_of(file: Path) -> dict[str, Any]:
    """Read what a file was made from; nothing is known of a released one."""
    if file.suffix == ".jsonl":
        beside = file.with_suffix(".json")
        return read_json(beside) if beside.is_file() else {}
    try:
        about = read_bank(file).get("about")
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def read_bank(file: Path) -> dict[str, Any]:
    """Map what a bank's file holds; banks of older torch versions are read whole.

    Raises:
        ValueError: It is damaged, or of something else.
    """
    try:
        held = torch.load(file, weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # a damaged file can raise any of Python's
        raise ValueError(f"{file}: not a bank, or damaged ({first_line(error)})") from None
    if not isinstance(held, dict):
        raise ValueError(f"{file}: not a bank, it holds a {type(held).__name__}")
    return held


def write_distilled(file: Path, store: Store, about: dict[str, Any]) -> None:
    """Write text, label and logits of every row, the documents' distillation data set.

    Raises:
        OSError: The disk is full; an older file is kept.
    """
    logits, split = np.load(store.folder / "logits.npy", mmap_mode="r"), store.split
    assert split.label is not None
    labels = split.label

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8") as lines:
            for row, label, said in zip(read_split(split.task, split.name), labels, logits, strict=True):
                first, second = (*row.text, None)[:2]
                held = {"text": first, "text_pair": second, "label": written_label(label), "logits": said.tolist()}
                lines.write(json.dumps(held, ensure_ascii=False) + "\n")

    beside = file.with_suffix(".json")
    if is_main():
        beside.unlink(missing_ok=True)  # killed in between, the rows are of nothing that is known
    write_whole(file, write)
    write_json(beside, about)


def written_label(label: np.ndarray[Any, Any]) -> Any:
    """Spell a label as a number, or where several may hold as the list of their numbers."""
    return label.nonzero()[0].tolist() if label.ndim else label.item()


def write_bank(file: Path, name: str, shape: tuple[int, int], blocks: Iterator[Tensor], about: dict[str, Any]) -> None:
    """Write a bank of float32 rows, block by block; only the first process does.

    Raises:
        OSError: The disk is full; an older file is kept.
    """
    if not is_main():
        return
    rows = file.with_name(f".{file.name}.rows")
    try:
        filled, at = array(rows, np.float32, shape, there=False), 0
        for block in blocks:
            filled[at : at + len(block)] = block.numpy()
            at += len(block)
        held = {name: torch.from_numpy(filled), "about": about}
        write_whole(file, lambda part: torch.save(held, part))
    finally:
        rows.unlink(missing_ok=True)


def logits_of(store: Store) -> Iterator[Tensor]:
    """Give the logits (B, C) of block after block of rows."""
    logits = np.load(store.folder / "logits.npy", mmap_mode="r")
    for at in range(0, len(logits), BLOCK):
        yield torch.from_numpy(np.array(logits[at : at + BLOCK]))


def normalised(store: Store, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Give the [CLS] states (B, D) of a layer of the store, changed and L2-normalised, of block after block of rows."""
    states = np.load(store.folder / "states.npy", mmap_mode="r")
    column = store.layers.index(layer)
    for at in range(0, len(states), BLOCK):
        block = torch.from_numpy(np.array(states[at : at + BLOCK, column])).view(store.dtype)
        yield F.normalize(change(block).float(), dim=-1, eps=1e-12)


@torch.no_grad()
def pooled(model: Classifier, device: torch.device, block: Tensor) -> Tensor:
    """Pool [CLS] states of the last layer (B, D): (B, D), on the CPU."""
    return model.pooled(block.to(device)).cpu()


def tell_room(folder: Path, shape: tuple[int, int], count: int) -> None:
    """Say what banks will take; refuse those that the disk cannot hold.

    Raises:
        ValueError: With what is needed and what is free.
    """
    size, what = 4 * shape[0] * shape[1] * count, f"{count} banks of {shape[0]} x {shape[1]}"
    logger.info("%s: %.2f GB in %s", what, size / GB, folder)
    rows = 4 * shape[0] * shape[1]  # of one of them are there twice while it is written
    check_room(folder / "bank", size + rows, f"{what} would take {size / GB:.2f} GB")
