"""Whole curves for TensorBoard: scores of checkpoints, and the log of a run that is resumed."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from fine_tune.path import task_of
from fine_tune.run.history import Curve, read_scores


def write_curves(log_dir: Path, what: str, curves: Mapping[str, Curve]) -> None:
    """Write curves by their tags, in place of those that were written under the same `what`."""
    for old in log_dir.glob(f"events.*.{what}"):
        old.unlink()
    with SummaryWriter(str(log_dir), filename_suffix=f".{what}") as board:
        for name, curve in curves.items():
            for step, value in curve.items():
                board.add_scalar(name, value, step)


def write_scores(log_dir: Path, file: Path) -> None:
    """Write the scores of an `eval_SPLIT.json` under `<task>/<split>/<metric>`: never a tag of training's."""
    split, task = file.stem.removeprefix("eval_"), task_of(file.parent)
    write_curves(log_dir, split, {f"{task}/{name}": curve for name, curve in read_scores(file).items()})
