"""From a command to a model's outputs on a split, filled into the cache or found there; for the scripts of banks."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch

from fine_tune.data.batches import updates
from fine_tune.data.tokens import Split, load_labelled
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import EvalConfig, OutletConfig
from fine_tune.hardware import distributed
from fine_tune.model.load import Loaded, check_segments, load_run
from fine_tune.model.placement import place
from fine_tune.run.preflight import check_run, way_out
from fine_tune.run.process import prepare_reading
from fine_tune.tasks.named import task_named
from fine_tune.teacher.cache import fill_checked
from fine_tune.teacher.store import Store, store_of

logger = logging.getLogger(__name__)


class Subject(NamedTuple):
    """A model, teacher or student, in its place, and the rows that it reads."""

    loaded: Loaded
    rows: Split
    device: torch.device
    batch_size: int


def open_subject(flags: Flags) -> Subject:
    """Read the run and the split that a command names.

    Raises:
        ValueError: The split has no labels, or the model does not fit it.
        FileNotFoundError: No such run, checkpoint or data.
    """
    flags, device = prepare_reading(flags)
    cfg = flags[EvalConfig]
    task = task_named(cfg.task)
    loaded = load_run(cfg.experiment, cfg.architecture, task, flags[OutletConfig].ckpt, cfg.ptrain_ver, "--ckpt")
    if cfg.preflight:
        with way_out():
            check_run(loaded, task)
    rows = load_labelled(task, cfg.dataset, loaded.tokenizer, loaded.max_seq_len)
    check_segments(loaded.model, rows)
    place(loaded.model, device, flags)
    return Subject(loaded, rows, device, cfg.batch_size)


def outputs(subject: Subject, level: str, layers: Sequence[int] = ()) -> Store:
    """Run a model over its rows, unless its outputs are in the cache already.

    Args:
        subject: The model and the rows.
        level: `logits`, or `cls` for the [CLS] states as well.
        layers: 0-based layers whose states are wanted.

    Raises:
        ValueError: The disk is too small.
    """
    loaded, rows, device, batch_size = subject
    store = store_of(loaded, rows, level, tuple(layers))
    with distributed.main_first():
        if not store.folder.is_dir():
            store.check_disk(f"the cache of {loaded.folder.name}")
            logger.info("%s of checkpoint %d: filling %s", store.about(), loaded.step, store.folder)
            compared = updates(rows, batch_size=batch_size, seed=0)
            fill_checked(store, loaded.model, device, device.type == "cpu", compared, batch_size)
    return store
