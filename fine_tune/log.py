"""What a run leaves: TensorBoard, `metrics.jsonl`, checkpoints, one progress line; means that never wait for a GPU.

Of several processes, all take part in a mean, and the first one writes.
"""

import itertools
import json
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from fine_tune import distributed, process
from fine_tune.checkpoint import save_checkpoint

logger = logging.getLogger(__name__)

COLLAPSED = 0.8
"""Share of its first value below which the spread of the gates' targets is told, see `model.gate.spread`.

SST-2, one epoch: 1.0 at the published rate of the gates, 1e-6; 0.6 at 1e-3, where the gates close.
"""


class Meter:
    """Weighted means of scalars between two log entries, summed on their device and read once."""

    def __init__(self) -> None:
        """Start empty."""
        self.total: dict[str, Tensor] = {}
        self.weight = 0.0

    def add(self, weight: float, **values: Tensor) -> None:
        """Add detached scalars, or tables of them; the weights of one update sum to 1."""
        self.weight += weight
        for name, value in values.items():
            value = value.detach() * weight
            self.total[name] = self.total[name] + value if name in self.total else value

    def mean(self, step: int) -> dict[str, float]:
        """Read the means, over all processes, and start anew; entry (i, j) of a table is called `name_i_j`, from 1 on.

        Raises:
            FloatingPointError: A mean is not finite.
        """
        device = next(iter(self.total.values())).device
        flat = [torch.tensor([self.weight], device=device), *(t.to(device).flatten() for t in self.total.values())]
        weight, *sums = distributed.add_up(torch.cat(flat).double()).tolist()
        means = {name: total / weight for name, total in zip(self.names(), sums, strict=True)}
        self.total, self.weight = {}, 0.0
        if bad := {name: value for name, value in means.items() if not math.isfinite(value)}:
            raise FloatingPointError(f"not finite by step {step}: {bad}; lower the learning rate or the loss weights")
        return means

    def names(self) -> Iterator[str]:
        """Name every scalar, in order."""
        for name, table in self.total.items():
            for place in itertools.product(*(range(1, size + 1) for size in table.shape)):
                yield "_".join([name, *map(str, place)])


class TrainLog:
    """Counts the updates of a training run, writes its scalars, saves its checkpoints; use as a context manager.

    Args:
        run_dir: Folder for `metrics.jsonl` and checkpoints.
        log_dir: Folder for TensorBoard.
        total_step: Updates in all.
        log_step: Updates between two entries; the last update makes one, too.
        ckpt_step: Updates between two checkpoints; the last update makes one, too.
    """

    def __init__(self, run_dir: Path, log_dir: Path, total_step: int, log_step: int, ckpt_step: int) -> None:
        """Open everything."""
        self.run_dir, self.total_step, self.log_step, self.ckpt_step = run_dir, total_step, log_step, ckpt_step
        self.meter = Meter()
        self.first_spread: float | None = None
        self.bar = tqdm(total=total_step, dynamic_ncols=True, mininterval=1, unit="step", disable=not process.is_main())
        if process.is_main():
            self.board = SummaryWriter(str(log_dir))
            self.lines = (run_dir / "metrics.jsonl").open("a", encoding="utf-8")

    def __enter__(self) -> "TrainLog":
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        self.bar.close()
        if process.is_main():
            self.lines.close()
            self.board.close()

    def steps(self) -> range:
        """Number the updates, from 1 on."""
        return range(1, self.total_step + 1)

    def add(self, weight: float, **values: Tensor) -> None:
        """Take what a micro-batch gave, see `Meter.add`."""
        self.meter.add(weight, **values)

    def update(self, step: int, rates: dict[str, float]) -> None:
        """Count an update, made with these learning rates; write an entry where one is due."""
        self.advance()
        if is_due(step, self.log_step, self.total_step):
            means = self.meter.mean(step)
            self.scalars(step, means | rates)
            self.watch(step, means.get("target_spread"))

    def save(self, step: int, model: nn.Module, gates: nn.Module | None = None) -> None:
        """Save a checkpoint where one is due."""
        if is_due(step, self.ckpt_step, self.total_step):
            save_checkpoint(self.run_dir, step, model, gates)

    def watch(self, step: int, spread: float | None) -> None:
        """Warn once if the gates' targets collapse: if they differ less than `COLLAPSED` of what they did at first."""
        if spread is None or self.first_spread == 0:
            return
        self.first_spread = self.first_spread or spread
        if spread < COLLAPSED * self.first_spread:
            logger.warning(
                "by update %d the gates' targets differ %.0f %% less than at first: they collapse to what is easy to "
                "match; lower --gate_lr or raise --gate_init_bias",
                *(step, 100 * (1 - spread / self.first_spread)),
            )
            self.first_spread = 0

    def advance(self) -> None:
        """Move the progress line."""
        self.bar.update()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write one entry under `train/`."""
        if not process.is_main():
            return
        for name, value in values.items():
            self.board.add_scalar(f"train/{name}", value, step)
        print(json.dumps({"step": step, **values}), file=self.lines, flush=True)
        losses = {name: f"{value:.4f}" for name, value in values.items() if name.endswith("loss")}
        compiled = {"compiled": f"{seconds:.0f} s"} if (seconds := compile_seconds()) else {}
        self.bar.set_postfix(losses | compiled, refresh=False)


def compile_seconds() -> float:
    """Time that torch.compile took in this process so far, in seconds."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return float(dynamo.calculate_time_spent()["total_wall_time"]) if dynamo else 0.0


def write_scalars(log_dir: Path, split: str, scores: dict[int, dict[str, float]]) -> None:
    """Write the scores of checkpoints, by step and name, to TensorBoard."""
    if process.is_main():
        with SummaryWriter(str(log_dir)) as board:
            for step, values in scores.items():
                for name, value in values.items():
                    board.add_scalar(f"{split}/{name}", value, step)


def is_due(step: int, every: int, last: int) -> bool:
    """Whether something done every `every` updates, and after the last one, is due."""
    return step % every == 0 or step == last
