"""A teacher that is banks on disk, see `bank`: nothing of it is in memory but what a batch asks for.

Vectors are memory-mapped, unless `--membank_device` names a GPU. A bank that was made from another checkpoint, split or
width than the run's is refused. Banks of the released code say nothing of that: only their size is compared. They hold
a column per row, and are turned once, into the cache.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fine_tune.data.batches import Batch
from fine_tune.data.tokens import Split, reading_cache
from fine_tune.files import digest, fill_folder
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import StudentConfig
from fine_tune.hardware import distributed, rank
from fine_tune.hardware.device import resolve_device, to_device
from fine_tune.model.load import Loaded
from fine_tune.path import cache_dir
from fine_tune.teacher.bank import BLOCK, layer_bank, logits_bank, made_from, read_bank, unlike
from fine_tune.teacher.protocol import Needs, TeacherOutput
from fine_tune.teacher.store import array

logger = logging.getLogger(__name__)

MAKERS = {"logitsbank": "build_logitsbank.py", "membank": "build_membank.py"}
"""Scripts that write banks, by what these hold."""


class MemoryBank:
    """A vector of each row of a split.

    Args:
        vectors: (N, D).
        place: Where they are kept.
        home: The student's device, where they are asked for.
    """

    def __init__(self, vectors: Tensor, place: torch.device, home: torch.device) -> None:
        self.vectors = to_device(vectors, place)
        self.home = home

    def __call__(self, rows: NDArray[np.int64]) -> Tensor:
        """Give the vectors of rows, of any shape: one more axis, D."""
        index: Tensor = to_device(torch.from_numpy(rows), self.vectors.device)
        vectors: Tensor = to_device(self.vectors[index], self.home)
        return vectors


class BankedTeacher:
    """Looks up logits and normalised [CLS] states.

    Args:
        logits: Bank of logits.
        layers: Banks by 0-based layer.
    """

    def __init__(self, logits: MemoryBank, layers: Mapping[int, MemoryBank]) -> None:
        self.logits = logits
        self.layers = layers

    def expect(self, update: list[Batch]) -> None:
        """Prepare nothing."""

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Look a batch up; states are (B, 1, D)."""
        states = {layer: bank(batch.rows)[:, None] for layer, bank in self.layers.items()}
        return TeacherOutput(self.logits(batch.rows), states)


def banked_teacher(
    loaded: Loaded, split: Split, needs: Needs, place: torch.device, home: torch.device
) -> BankedTeacher:
    """Read banks in a teacher's place, and let its weights go.

    Args:
        loaded: The teacher.
        split: The rows, as it reads them.
        needs: What the method needs.
        place: Where logits are kept; vectors stay on disk.
        home: The student's device.

    Raises:
        ValueError: The method needs what banks do not hold, or a bank is of something else.
        FileNotFoundError: A bank is not there.
    """
    if needs.level == "states" or (needs.layers and not needs.unit):
        kind = "states of all tokens" if needs.level == "states" else "[CLS] states with their length"
        raise ValueError(
            f"--teacher_cache bank: this method needs {kind}; banks hold logits and normalised [CLS] states"
        )
    logits, *vectors = open_banks(
        loaded, split, [logits_bank(loaded), *(layer_bank(loaded, layer) for layer in needs.layers)]
    )
    loaded.model.to("meta")
    disk = torch.device("cpu")
    layers = {layer: MemoryBank(rows, disk, home) for layer, rows in zip(needs.layers, vectors, strict=True)}
    return BankedTeacher(MemoryBank(logits, place, home), layers)


def bank_device(number: int | None) -> torch.device:
    """Give the device that `--membank_device` names.

    Raises:
        ValueError: There is no such GPU; or there are several processes, each of which would keep the bank there.
    """
    if number is not None and number >= 0 and rank.world_size() > 1:
        raise ValueError(f"--membank_device {number}: under torchrun the bank stays on disk; leave the flag out")
    return resolve_device(-1 if number is None else number, "--membank_device")


def check_width(teacher: Loaded, flags: Flags) -> None:
    """Refuse a student whose vectors are not as wide as those they are compared with.

    Raises:
        ValueError: With both widths.
    """
    width, own = teacher.model.width, flags[StudentConfig].d_model
    if own != width:
        raise ValueError(f"--d_model {own}: is contrasted with vectors of width {width}; give --d_model {width}")


def open_banks(loaded: Loaded, split: Split, files: Sequence[Path]) -> list[Tensor]:
    """Open banks in a teacher's folder: (N, C) of logits, (N, D) of vectors, memory-mapped.

    Raises:
        ValueError: One is of something else than the run; both are named.
        FileNotFoundError: One is not there.
    """
    wanted, classes = made_from(loaded, split), split.task.num_class
    return [open_bank(file, wanted, classes if kind_of(file) == "logitsbank" else wanted["width"]) for file in files]


def open_bank(file: Path, wanted: dict[str, Any], width: int) -> Tensor:
    """Open a bank that has to be made from what is `wanted`; see `open_banks`."""
    command = make_command(file, wanted)
    if not file.is_file():
        raise FileNotFoundError(f"no bank at {file}; make it with: {command}")
    try:
        held, kind = read_bank(file), kind_of(file)
    except ValueError as error:
        raise ValueError(f"{error}; make it anew: {command} --overwrite") from None
    rows, about, shape = held.get(kind), held.get("about", wanted), (wanted["rows"], width)
    if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.dtype != torch.float32 or not isinstance(about, dict):
        what = f"{file}: not a bank: it has no table of float32 numbers named {kind}"
        raise ValueError(f"{what}; make it anew: {command} --overwrite")
    if "about" not in held:
        logger.warning("%s does not say what it was made from; taken as of this checkpoint and split", file)
        if kind == "membank" and tuple(rows.shape) == shape[::-1]:
            rows = turned(file, rows)
    was, now = unlike(about, wanted, ("run", "precision"))  # a folder can be renamed, and what is rounded be read
    if was:
        raise ValueError(f"{file} was made from {was}, but the run is of {now}; make it anew: {command} --overwrite")
    if tuple(rows.shape) != shape:
        what = f"{file} has the shape {tuple(rows.shape)}, the run needs {shape}"
        raise ValueError(f"{what}; make it anew: {command} --overwrite")
    if about.get("precision") != wanted.get("precision"):
        logger.warning("%s was made in %s", file, about.get("precision"))
    return rows


def kind_of(file: Path) -> str:
    """Say what a bank holds, by its name."""
    return "logitsbank" if file.name.startswith("logitsbank") else "membank"


def make_command(file: Path, wanted: dict[str, Any]) -> str:
    """Write the command that makes a bank."""
    experiment, model, task = str(wanted["run"]).rsplit("_", 2)
    command = f"python {MAKERS[kind_of(file)]} --experiment {experiment} --model {model} --task {task}"
    command += f" --dataset {wanted['split']} --ckpt {wanted['checkpoint']}"
    return command + " --layer_wise" * bool(re.fullmatch(r"membank\d+\.pt", file.name))


def turned(file: Path, columns: Tensor) -> Tensor:
    """Turn a released bank, (D, N), to a row per row, (N, D), in the cache."""
    folder = cache_dir() / f"bank-{digest(file)[:20]}"

    def fill(building: Path) -> None:
        rows = array(building / "rows.npy", np.float32, (columns.shape[1], columns.shape[0]), there=False)
        for at in range(0, len(rows), BLOCK):
            rows[at : at + BLOCK] = columns[:, at : at + BLOCK].t().numpy()
        rows.flush()

    with distributed.main_first():
        if not folder.is_dir():
            fill_folder(folder, fill)
    with reading_cache(folder):
        return torch.from_numpy(np.load(folder / "rows.npy", mmap_mode="c"))
