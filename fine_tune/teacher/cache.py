"""A teacher whose outputs are read from disk (`--teacher_cache`): computed once, see `store`, then read in every epoch.

The rows of an update are read ahead while the update before it runs. The largest difference to the live teacher, 0 on
a CPU, is logged at every start.

Prior art: TextBrewer caches logits in memory, for frozen batches.
"""

import logging
import os
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from fine_tune.data.batches import Batch, updates_of
from fine_tune.data.tokens import Split, reading_cache
from fine_tune.files import read_json
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import OutputsConfig, RunConfig, SpeedConfig
from fine_tune.hardware import distributed
from fine_tune.hardware.device import Devices, to_device
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import Loaded
from fine_tune.teacher.banked import banked_teacher
from fine_tune.teacher.live import LiveTeacher
from fine_tune.teacher.protocol import LEVELS, Needs, Teacher, TeacherOutput
from fine_tune.teacher.store import GB, TOKENS_AT_ONCE, Store, fill_store, store_of

logger = logging.getLogger(__name__)

CHECKED = 4
"""Updates on which a new cache is compared with the model."""


class CachedTeacher:
    """A teacher that is read.

    Args:
        store: What is read.
        home: The student's device, where outputs go.
    """

    def __init__(self, store: Store, home: torch.device) -> None:
        self.store = store
        self.home = home
        self.logits = np.load(store.folder / "logits.npy")
        if store.layers:
            stored = np.load(store.folder / "states.npy", mmap_mode="r")
            self.first_byte = stored.offset
            self.unit = np.empty(stored.shape[1:], stored.dtype)
            self.file = os.open(store.folder / "states.npy", os.O_RDONLY)
            weakref.finalize(self, os.close, self.file)

    def extents(self, batch: Batch) -> list[tuple[int, int]]:
        """Find each row in the file of states: first byte, and how many tokens."""
        split, every = self.store.split, self.store.level == "states"
        lengths = split.lengths[batch.rows] if every else np.ones_like(batch.rows)
        starts = split.offsets[batch.rows] if every else batch.rows
        return list(zip((self.first_byte + starts * self.unit.nbytes).tolist(), lengths.tolist(), strict=True))

    def expect(self, update: list[Batch]) -> None:
        """Let the system read ahead what the next update will ask for (Linux)."""
        if self.store.layers and hasattr(os, "posix_fadvise"):
            for start, length in (extent for batch in update for extent in self.extents(batch)):
                os.posix_fadvise(self.file, start, length * self.unit.nbytes, os.POSIX_FADV_WILLNEED)

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Read a batch: padding is 0; at the level `cls` the states are (B, 1, D)."""
        logits = to_device(torch.from_numpy(self.logits[batch.rows]), self.home)
        if not self.store.layers:
            return TeacherOutput(logits, {})
        extents = self.extents(batch)
        states = np.empty((len(extents), max(length for _, length in extents), *self.unit.shape), self.unit.dtype)
        for row, (start, length) in zip(states, extents, strict=True):
            if os.preadv(self.file, [row[:length]], start) != length * self.unit.nbytes:
                raise OSError("the teacher cache ends early; remove its folder, the next run fills it anew")
            row[length:] = 0
        by_layer = torch.from_numpy(states).view(self.store.dtype).unbind(2)
        return TeacherOutput(logits, to_device(dict(zip(self.store.layers, by_layer, strict=True)), self.home))


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
    if cache.teacher_cache == "bank":
        return banked_teacher(loaded, split, needs, devices.teacher, home)
    apart = devices.teacher.type == "cpu" and not cfg.pad_to_max and not flags[SpeedConfig].compile
    live = LiveTeacher(loaded.model, devices.teacher, needs.layers, apart, home, 1 if needs.level == "cls" else None)
    if cache.teacher_cache == "none":
        return live
    if LEVELS.index(cache.teacher_cache) < LEVELS.index(needs.level):
        raise ValueError(f"--teacher_cache {cache.teacher_cache}: this method needs {needs.level} of its teacher")
    if cache.teacher_cache == "states" and cfg.pad_to_max:
        raise ValueError("--teacher_cache states keeps no padding, but with --pad_to_max padding counts; leave one out")
    store = store_of(loaded, split, cache.teacher_cache, needs.layers)
    with distributed.main_first():
        if not store.folder.is_dir():
            flag = f"--teacher_cache {store.level}"
            if store.size > cache.cache_budget * GB:
                limit = f"--cache_budget allows {cache.cache_budget:g} GB"
                raise ValueError(f"{flag} would take {store.about()}; {limit}")
            store.check_disk(flag)
            if cfg.dry_run:
                logger.info("teacher cache of %s: not filled; updates are tried with the teacher itself", store.about())
                return live
            logger.info("teacher cache of %s: filling %s", store.about(), store.folder)
            fill_checked(store, loaded.model, devices.teacher, apart, updates_of(cfg, split))
    with reading_cache(store.folder):
        difference = float(read_json(store.folder / "check.json")["largest_difference"])
        cached = CachedTeacher(store, home)
    logger.info(
        "teacher cache of %s: %s; largest difference to the live teacher: %g", store.about(), store.folder, difference
    )
    return cached


def fill_checked(
    store: Store,
    model: Classifier,
    device: torch.device,
    by_length: bool,
    updates: Iterator[list[Batch]],
    rows_at_once: int = TOKENS_AT_ONCE,
) -> None:
    """Fill a store that is not there yet by its model, and compare what it holds with the model on some updates.

    Args:
        store: What to fill.
        model: The model, on `device`.
        device: Its place.
        by_length: See `LiveTeacher`.
        updates: What is compared, the first `CHECKED` of them.
        rows_at_once: The model reads no more.
    """
    live = LiveTeacher(model, device, store.layers, by_length)  # all tokens, and nothing moves home
    batches = islice(updates, CHECKED)
    fill_store(store, live, lambda filled: largest_difference(live, filled, batches), rows_at_once)


def largest_difference(live: LiveTeacher, store: Store, batches: Iterable[list[Batch]]) -> float:
    """Compare what was stored, logits and states of real tokens, with the teacher, over some updates."""
    worst, cached = 0.0, CachedTeacher(store, live.home)
    for update in batches:
        for batch in update:
            ours, theirs = cached(batch), live(batch)
            worst = max(worst, float((ours.logits.cpu() - theirs.logits.cpu()).abs().max()))
            for layer, states in ours.states.items():
                gap = (states.cpu().float() - theirs.states[layer][:, : states.shape[1]].cpu().float()).abs()
                real = batch.mask if batch.mask is not None and store.level == "states" else torch.ones(gap.shape[:2])
                worst = max(worst, float((gap * real.cpu()[..., None]).max()))
    return worst
