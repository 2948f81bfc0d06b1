"""A teacher's outputs for every row of a split, at rest in the cache: filled once, read by training and by banks.

Stored without padding, one folder per (rows, tokenizer, teacher checkpoint, precision, level, layers): `logits.npy`
(N, C) float32, and `states.npy`, (N, L, D) for the level `cls`, (tokens, L, D) for `states`, in the precision of the
run. Filling streams, and goes on where a killed process stopped. On a CPU what is stored equals the live teacher's to
the last bit; the largest difference on some batches is noted in the folder.

Source of sizes: N rows, D width, C classes.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from fine_tune.data.batches import by_length
from fine_tune.data.tokens import Split
from fine_tune.files import digest, existing, fill_folder, read_json, write_json
from fine_tune.model.load import Loaded
from fine_tune.path import cache_dir
from fine_tune.teacher.live import LiveTeacher

FORMAT = 2
"""Raise when what is stored changes."""
STORED: dict[torch.dtype, type] = {torch.float32: np.float32, torch.bfloat16: np.int16, torch.float16: np.float16}
TOKENS_AT_ONCE = 4096
SECONDS = 10.0
"""Between two notes of how far the filling has come."""
DONE = "done.json"
"""How many rows are done, in a folder that is being filled."""
GB = 10**9


class Store(NamedTuple):
    """Where a teacher's outputs are kept, and which.

    Attributes:
        folder: Their folder, there or not.
        split: The rows.
        level: `logits`, `cls` or `states`, see `teacher.protocol`.
        layers: 0-based layers.
        dtype: Of the states.
        width: D.
    """

    folder: Path
    split: Split
    level: str
    layers: tuple[int, ...]
    dtype: torch.dtype
    width: int

    @property
    def units(self) -> int:
        """States of a layer: one of each row, or of each token."""
        return {"logits": 0, "cls": len(self.split), "states": int(self.split.offsets[-1])}[self.level]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        logits = 4 * len(self.split) * self.split.task.num_class
        return logits + self.units * len(self.layers) * self.width * self.dtype.itemsize

    def about(self) -> str:
        """Say size and content."""
        states = f" of {len(self.layers)} layers in {str(self.dtype).removeprefix('torch.')}" if self.layers else ""
        return f"{self.size / GB:.2f} GB: {self.level}{states}"

    def check_disk(self, flag: str) -> None:
        """Refuse what the disk cannot hold; what a killed process has filled already is not asked for again.

        Raises:
            ValueError: With what is needed and what is free.
        """
        building = self.folder.with_name(f".{self.folder.name}")
        there = sum(file.stat().st_size for file in building.glob("*.npy"))
        check_room(self.folder, self.size - there, f"{flag} would take {self.about()}")


def check_room(path: Path, size: int, what: str) -> None:
    """Refuse what would be written to `path` and does not fit on its disk.

    Raises:
        ValueError: With `what`, and what is free.
    """
    free = shutil.disk_usage(existing(path)).free
    if size > 0.95 * free:
        raise ValueError(f"{what}; the disk has {free / GB:.2f} GB left")


def store_of(loaded: Loaded, split: Split, level: str, layers: tuple[int, ...]) -> Store:
    """Name the folder of a teacher's outputs, by all that decides what they are.

    Args:
        loaded: The teacher, in the precision in which it runs.
        split: The rows, as it reads them.
        level: `logits`, `cls` or `states`.
        layers: 0-based layers.
    """
    dtype = loaded.model.product_dtype
    what = [FORMAT, split.key, digest(loaded.checkpoint), str(dtype), level, layers]
    folder = cache_dir() / f"teacher-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]}"
    return Store(folder, split, level, layers, dtype, loaded.model.width)


def fill_store(store: Store, live: LiveTeacher, difference: Callable[[Store], float], rows_at_once: int) -> None:
    """Fill a store that is not there yet; what a killed process has done is kept.

    Args:
        store: What to fill.
        live: The teacher, giving the layers of the store, all tokens.
        difference: Compares what was stored, in the folder of the store it is given, with the teacher.
        rows_at_once: The teacher reads no more.

    Raises:
        OSError: The disk is full; nothing is left.
    """

    def fill(building: Path) -> None:
        filled = store._replace(folder=building)
        fill_arrays(filled, live, rows_at_once)
        write_json(building / "check.json", {"largest_difference": difference(filled)})
        (building / DONE).unlink()

    fill_folder(store.folder, fill, go_on=True)


def fill_arrays(store: Store, live: LiveTeacher, rows_at_once: int) -> None:
    """Run the teacher over all rows, in batches of a single length, from where it stopped."""
    folder, split = store.folder, store.split
    done = int(read_json(folder / DONE)["rows"]) if (folder / DONE).is_file() else 0
    logits = array(folder / "logits.npy", np.float32, (len(split), split.task.num_class), done > 0)
    shape = (store.units, len(store.layers), store.width)
    states = array(folder / "states.npy", STORED[store.dtype], shape, done > 0) if store.layers else None
    noted = time.monotonic()
    with tqdm(total=len(split), initial=done, unit="row", desc="teacher", dynamic_ncols=True, mininterval=1) as bar:
        for part in single_lengths(split, rows_at_once, done):
            out = live.run(split.inputs(part))
            logits[part] = out.logits.cpu().numpy()
            if states is not None:
                at = part[:, None] if store.level == "cls" else split.token_index(part)[0]
                given = torch.stack([out.states[layer][:, : at.shape[1]] for layer in store.layers], 2)
                bits = torch.int16 if store.dtype == torch.bfloat16 else store.dtype
                states[at] = given.to("cpu", store.dtype).view(bits).numpy()
            done += len(part)
            bar.update(len(part))
            if time.monotonic() - noted > SECONDS or done == len(split):
                for filled in (logits, states):
                    if filled is not None:
                        filled.flush()
                write_json(folder / DONE, {"rows": done})
                noted = time.monotonic()


def array(file: Path, dtype: type, shape: tuple[int, ...], there: bool) -> np.memmap[Any, Any]:
    """Map an array on disk, a new one unless it is `there`, and reserve its space.

    A memory-mapped write to a full disk would kill the process.

    Raises:
        OSError: The disk is full.
    """
    mapped = open_memmap(file, "r+" if there else "w+", dtype, shape)
    if hasattr(os, "posix_fallocate") and not there:
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return mapped


def single_lengths(split: Split, rows_at_once: int, done: int) -> Iterable[NDArray[np.int64]]:
    """Cut the rows into batches of one length each, the shortest first, without the first `done`."""
    for alike in by_length(np.arange(len(split)), split.lengths):
        done, left = max(0, done - len(alike)), alike[done:]
        if len(left):
            count = max(1, min(rows_at_once, TOKENS_AT_ONCE // int(split.lengths[left[0]])))
            yield from np.split(left, range(count, len(left), count))
