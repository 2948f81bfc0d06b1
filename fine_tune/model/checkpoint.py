"""Checkpoints of a run: `NAME-STEP.pt`, each written whole or not at all, `model-STEP.pt` last.

Names as released: `model`, and those that other trained parts give themselves. When a checkpoint is written, and what
else is then, stands in `run.session`; what a run's folder holds from the start, in `run.folder`.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from fine_tune.files import first_line, lock, unlock, write_whole
from fine_tune.hardware.rank import is_main

MODEL = "model"
"""Name of the file of the student, or of the teacher that is trained."""
SAVED = rf"{MODEL}|[a-z]+-\d+"
"""Names that a checkpoint's files may have: a part that is saved in pieces numbers them."""


def save_checkpoint(run_dir: Path, step: int, modules: Mapping[str, nn.Module]) -> None:
    """Write `NAME-STEP.pt` for every module, `model` last: where that file is, all the others are, too."""
    for name in sorted(modules, key=lambda name: name == MODEL):
        write_whole(run_dir / f"{name}-{step}.pt", partial(torch.save, modules[name].state_dict()))


def drop_checkpoints(run_dir: Path, steps: Iterable[int]) -> None:
    """Delete checkpoints, the model last, on the first process only. Files with other names stay."""
    for step in steps if is_main() else ():
        files = [
            file for file in run_dir.glob(f"*-{step}.pt") if re.fullmatch(SAVED, file.name.removesuffix(f"-{step}.pt"))
        ]
        for file in sorted(files, key=lambda file: file.name == f"{MODEL}-{step}.pt"):
            file.unlink()


def keep_checkpoints(run_dir: Path, scored: Iterable[int], best: int) -> None:
    """Delete scored checkpoints except the best and the last, on the first process only; refused while the run goes on.

    Raises:
        BlockingIOError: Another process uses the folder.
    """
    if is_main():
        lock(run_dir)
        drop_checkpoints(run_dir, set(scored) - {best, list_checkpoints(run_dir)[-1]})
        unlock(run_dir)


def list_checkpoints(run_dir: Path) -> list[int]:
    """Steps that have a `model-STEP.pt`, ascending."""
    found = (re.fullmatch(r"model-(\d+)\.pt", file.name) for file in run_dir.glob("model-*.pt"))
    return sorted(int(match[1]) for match in found if match)


def pick_checkpoint(run_dir: Path, step: int | None, flag: str) -> int:
    """Check that a checkpoint exists; None picks the last.

    Raises:
        FileNotFoundError: There is no such checkpoint.
    """
    steps = list_checkpoints(run_dir)
    if not steps:
        raise FileNotFoundError(f"{flag}: {run_dir} has the checkpoints: none")
    if step is not None and step not in steps:
        nearest, there = min(steps, key=lambda other: abs(other - step)), ", ".join(map(str, steps))
        raise FileNotFoundError(f"{flag} {step}: {run_dir} has the checkpoints: {there}; the nearest is {nearest}")
    return steps[-1] if step is None else step


def load_state(file: Path) -> dict[str, Tensor]:
    """Read a state dict to the CPU, without the `position_ids` buffer that transformers 3 used to save.

    Raises:
        ValueError: The file is damaged, or holds anything but tensors.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises half a dozen types for a damaged file
        raise ValueError(f"{file}: not a readable checkpoint: {first_line(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file}: not a state dict")
    state.pop("encoder.embeddings.position_ids", None)
    return state


def fill(model: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Load a state dict strictly.

    Raises:
        ValueError: Keys or shapes do not belong to the model.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit its config.json: {' '.join(str(error).split())[:500]}") from None
