"""Teacher outputs on disk (`--teacher_cache`): computed once, then read in every epoch and every later run.

Stored without padding, one folder per (rows, tokenizer, teacher checkpoint, precision, level, layers): `logits.npy`
(N, C) float32, and `states.npy`, (N, L, D) for the level `cls`, (tokens, L, D) for `states`, in the precision of the
run. The rows of an update are read ahead while the update before it runs. On a CPU the stored outputs equal the live
teacher's to the last bit; the largest difference on some batches is noted in the folder and logged at every start.

Prior art: TextBrewer caches logits in memory, for frozen batches. Source of sizes: N rows, D width, C classes.
"""

import hashlib
import json
import logging
import os
import shutil
import weakref
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from fine_tune.data.batches import Batch, by_length, updates_of
from fine_tune.data.tokens import Split, reading_cache
from fine_tune.files import digest, existing, fill_folder, read_json, write_json
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import OutputsConfig, RunConfig, SpeedConfig
from fine_tune.hardware import distributed
from fine_tune.hardware.device import Devices, to_device
from fine_tune.model.load import Loaded
from fine_tune.path import cache_dir
from fine_tune.teacher.live import LiveTeacher
from fine_tune.teacher.protocol import LEVELS, Needs, Teacher, TeacherOutput

logger = logging.getLogger(__name__)

FORMAT = 2
"""Raise when what is stored changes."""
STORED: dict[torch.dtype, type] = {torch.float32: np.float32, torch.bfloat16: np.int16, torch.float16: np.float16}
TOKENS_AT_ONCE = 4096
CHECKED = 4
"""Updates on which a new cache is compared with the model."""
GB = 10**9


class CachedTeacher:
    """A teacher that is read.

    Args:
        folder: Folder of the cache.
        split: Its rows.
        level: What it holds.
        layers: 0-based layers it holds.
        dtype: Of the states.
        home: The student's device, where outputs go.
    """

    def __init__(
        self, folder: Path, split: Split, level: str, layers: Sequence[int], dtype: torch.dtype, home: torch.device
    ) -> None:
        self.split = split
        self.level = level
        self.layers = layers
        self.dtype = dtype
        self.home = home
        self.logits = np.load(folder / "logits.npy")
        if layers:
            stored = np.load(folder / "states.npy", mmap_mode="r")
            self.first_byte = stored.offset
            self.unit = np.empty(stored.shape[1:], stored.dtype)
            self.file = os.open(folder / "states.npy", os.O_RDONLY)
            weakref.finalize(self, os.close, self.file)

    def extents(self, batch: Batch) -> list[tuple[int, int]]:
        """Find each row in the file of states: first byte, and how many tokens."""
        lengths = self.split.lengths[batch.rows] if self.level == "states" else np.ones_like(batch.rows)
        starts = self.split.offsets[batch.rows] if self.level == "states" else batch.rows
        return list(zip((self.first_byte + starts * self.unit.nbytes).tolist(), lengths.tolist(), strict=True))

    def expect(self, update: list[Batch]) -> None:
        """Let the system read ahead what the next update will ask for (Linux)."""
        if self.layers and hasattr(os, "posix_fadvise"):
            for start, length in (extent for batch in update for extent in self.extents(batch)):
                os.posix_fadvise(self.file, start, length * self.unit.nbytes, os.POSIX_FADV_WILLNEED)

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Read a batch: padding is 0; at the level `cls` the states are (B, 1, D)."""
        logits = to_device(torch.from_numpy(self.logits[batch.rows]), self.home)
        if not self.layers:
            return TeacherOutput(logits, {})
        extents = self.extents(batch)
        states = np.empty((len(extents), max(length for _, length in extents), *self.unit.shape), self.unit.dtype)
        for row, (start, length) in zip(states, extents, strict=True):
            if os.preadv(self.file, [row[:length]], start) != length * self.unit.nbytes:
                raise OSError("the teacher cache ends early; remove its folder, the next run fills it anew")
            row[length:] = 0
        by_layer = torch.from_numpy(states).view(self.dtype).unbind(2)
        return TeacherOutput(logits, to_device(dict(zip(self.layers, by_layer, strict=True)), self.home))


def live_or_cached(loaded: Loaded, devices: Devices, split: Split, needs: Needs, flags: Flags) -> Teacher:
    """Give the teacher that a run asks for, live or cached; a cache that is not there is filled first.

    Args:
        loaded: The teacher, on its device, in the precision of the run.
        devices: Its device, and the student's.
        split: The rows to train on, as the teacher reads them.
        needs: What the method needs.
        flags: The run's flags.

    Raises:
        ValueError: The level asked for is not enough, or the size is over the budget or the disk.
    """
    cfg, cache, home = flags[RunConfig], flags[OutputsConfig], devices.student
    apart = devices.teacher.type == "cpu" and not cfg.pad_to_max and not flags[SpeedConfig].compile
    live = LiveTeacher(loaded.model, devices.teacher, needs.layers, apart, home, 1 if needs.level == "cls" else None)
    if cache.teacher_cache == "none":
        return live
    if LEVELS.index(cache.teacher_cache) < LEVELS.index(needs.level):
        raise ValueError(f"--teacher_cache {cache.teacher_cache}: this method needs {needs.level} of its teacher")
    if cache.teacher_cache == "states" and cfg.pad_to_max:
        raise ValueError("--teacher_cache states keeps no padding, but with --pad_to_max padding counts; leave one out")
    level, layers, dtype = cache.teacher_cache, needs.layers, loaded.model.product_dtype
    what = [FORMAT, split.key, digest(loaded.checkpoint), str(dtype), level, layers]
    folder = cache_dir() / f"teacher-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]}"
    units = {"logits": 0, "cls": len(split), "states": int(split.offsets[-1])}[level]
    size = 4 * len(split) * split.task.num_class + units * len(layers) * loaded.model.width * dtype.itemsize
    about = f"{size / GB:.2f} GB: {level} of {len(layers)} layers in {str(dtype).removeprefix('torch.')}"
    with distributed.main_first():
        if not folder.is_dir():
            free = shutil.disk_usage(existing(folder)).free
            if size > cache.cache_budget * GB:
                limit = f"--cache_budget allows {cache.cache_budget:g} GB"
                raise ValueError(f"--teacher_cache {level} would take {about}; {limit}")
            if size > 0.95 * free:
                raise ValueError(f"--teacher_cache {level} would take {about}; the disk has {free / GB:.2f} GB left")
            if cfg.dry_run:
                logger.info("teacher cache of %s: not filled; updates are tried with the teacher itself", about)
                return live
            logger.info("teacher cache of %s: filling %s", about, folder)
            batches = islice(updates_of(cfg, split), CHECKED)
            whole = LiveTeacher(loaded.model, devices.teacher, layers, apart)  # all tokens, and nothing moves home
            fill_folder(folder, lambda building: fill(building, whole, split, level, layers, batches))
    with reading_cache(folder):
        difference = float(read_json(folder / "check.json")["largest_difference"])
        cached = CachedTeacher(folder, split, level, layers, dtype, home)
    logger.info("teacher cache of %s: %s; largest difference to the live teacher: %g", about, folder, difference)
    return cached


def fill(
    folder: Path, live: LiveTeacher, split: Split, level: str, layers: tuple[int, ...], batches: Iterable[list[Batch]]
) -> None:
    """Run the teacher over all rows, in batches of a single length; compare with the teacher on some updates."""
    width, dtype = live.model.width, live.model.product_dtype
    rows, tokens = len(split), int(split.offsets[-1])
    logits = new_array(folder / "logits.npy", np.float32, (rows, split.task.num_class))
    kept = () if level == "logits" else layers
    units = {"logits": 0, "cls": rows, "states": tokens}[level]
    states = new_array(folder / "states.npy", STORED[dtype], (units, len(kept), width)) if kept else None
    with tqdm(total=rows, unit="row", desc="teacher cache", dynamic_ncols=True, mininterval=1) as bar:
        for part in single_lengths(split):
            out = live.run(split.inputs(part))
            logits[part] = out.logits.cpu().numpy()
            at = part[:, None] if level == "cls" else split.token_index(part)[0]
            if states is not None:
                given = torch.stack([out.states[layer][:, : at.shape[1]] for layer in kept], 2).to("cpu", dtype)
                states[at] = given.view(torch.int16 if dtype == torch.bfloat16 else dtype).numpy()
            bar.update(len(part))
    for array in (logits, *([] if states is None else [states])):
        array.flush()
    cached = CachedTeacher(folder, split, level, kept, dtype, live.home)
    write_json(folder / "check.json", {"largest_difference": largest_difference(live, cached, batches)})


def new_array(file: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Create an array on disk and reserve its space: a memory-mapped write to a full disk would kill the process.

    Raises:
        OSError: The disk is full.
    """
    array = open_memmap(file, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return array


def single_lengths(split: Split) -> Iterable[NDArray[np.int64]]:
    """Cut all rows into batches of one length each."""
    for alike in by_length(np.arange(len(split)), split.lengths):
        count = max(1, TOKENS_AT_ONCE // int(split.lengths[alike[0]]))
        yield from np.split(alike, range(count, len(alike), count))


def largest_difference(live: LiveTeacher, cached: CachedTeacher, batches: Iterable[list[Batch]]) -> float:
    """Compare logits and states of real tokens, over some updates."""
    worst = 0.0
    for update in batches:
        for batch in update:
            ours, theirs = cached(batch), live(batch)
            worst = max(worst, float((ours.logits.cpu() - theirs.logits.cpu()).abs().max()))
            for layer, states in ours.states.items():
                gap = (states.cpu().float() - theirs.states[layer][:, : states.shape[1]].cpu().float()).abs()
                real = batch.mask if batch.mask is not None and cached.level == "states" else torch.ones(gap.shape[:2])
                worst = max(worst, float((gap * real.cpu()[..., None]).max()))
    return worst
