"""What a run leaves: TensorBoard, `metrics.jsonl`, checkpoints, one progress line. The first process alone writes."""

import contextlib
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from fine_tune.flags.shared import Pace
from fine_tune.hardware import distributed
from fine_tune.hardware import rank as process
from fine_tune.model.checkpoint import drop_checkpoints, list_checkpoints, save_checkpoint
from fine_tune.model.placement import compile_seconds
from fine_tune.run.history import Curve, read_log, read_scores
from fine_tune.run.meter import Meter
from fine_tune.run.state import Snapshot

logger = logging.getLogger(__name__)

COLLAPSED = 0.8
"""Share of its first value below which the spread of the gates' targets is told, see `model.gate.spread`.

SST-2, one epoch: 1.0 at the published rate of the gates, 1e-6; 0.6 at 1e-3, where the gates close.
"""


class TrainLog:
    """Counts the updates of a training run, writes its scalars, saves its checkpoints; use as a context manager.

    Told to stop (SIGTERM, Ctrl-C), it ends the run after the update under way, with a state to go on from. A second
    Ctrl-C ends it at once.

    Args:
        run_dir: Folder for `metrics.jsonl` and checkpoints.
        log_dir: Folder for TensorBoard.
        pace: Updates between two entries, checkpoints, states; the last update makes an entry and a checkpoint, too.
        total_step: Updates in all.
        snapshot: The run's state; where there is one on disk, the log goes on from it.
        locate: Names the rows of an update, for messages.

    Raises:
        ValueError: The state on disk does not fit.
    """

    stopped_by: int | None = None
    """Signal that told the run to stop."""

    def __init__(
        self,
        run_dir: Path,
        log_dir: Path,
        pace: Pace,
        total_step: int,
        snapshot: Snapshot | None = None,
        locate: Callable[[int], list[str]] | None = None,
    ) -> None:
        """Open everything."""
        self.run_dir, self.log_dir, self.pace, self.total_step = run_dir, log_dir, pace, total_step
        self.snapshot, self.locate = snapshot, locate
        self.meter, self.done, self.step = Meter(), 0, 0
        self.first_spread: float | None = None
        self.bad: Tensor | None = None
        self.file = run_dir / "metrics.jsonl"
        if snapshot and snapshot.file.is_file():
            self.go_on(*snapshot.load())
        self.bar = tqdm(
            total=total_step, initial=self.done, dynamic_ncols=True, mininterval=1, unit="step",
            disable=not process.is_main(),
        )  # fmt: skip
        if process.is_main():
            self.board = SummaryWriter(str(log_dir))
            self.lines = self.file.open("a", encoding="utf-8")
        if snapshot and not self.done:
            snapshot.save(0, self.state())  # from now on there is always something to go on from

    def go_on(self, step: int, state: dict[str, Any]) -> None:
        """Restore the log as it was after update `step`; what was written after that is dropped."""
        self.done, self.first_spread = step, state["first_spread"]
        self.meter.restore(state["meter"])
        if process.is_main():
            os.truncate(self.file, state["bytes"])
            shutil.rmtree(self.log_dir.resolve(), ignore_errors=True)
            logged = {f"train/{name}": curve for name, curve in read_log(self.file).items()}
            write_curves(self.log_dir, "train", logged)
            for file in self.run_dir.glob("eval_*.json"):
                write_curves(self.log_dir, file.stem.removeprefix("eval_"), read_scores(file))

    def state(self) -> dict[str, Any]:
        """Give what `go_on` needs."""
        if process.is_main():
            os.fsync(self.lines.fileno())
        written = self.file.stat().st_size if process.is_main() else 0
        return {"meter": self.meter.state(), "first_spread": self.first_spread, "bytes": written}

    def __enter__(self) -> "TrainLog":
        """Take over the signals that tell a run to stop."""
        self.handlers = {which: signal.signal(which, self.be_told) for which in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close everything; say what ended the run, if it is no fault of the program's."""
        for which, handler in self.handlers.items():
            signal.signal(which, handler)
        self.bar.close()
        with self.telling():
            try:
                if process.is_main():
                    for file in (self.lines, self.board):
                        file.close()
            finally:
                if error:
                    raise error

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """End the run with one line if it cannot write any more, or has nothing left to save.

        Raises:
            SystemExit: With exit code 1.
        """
        try:
            yield
        except OSError as error:
            raise SystemExit(f"stopped at update {self.step}: {error}; mend that, then --resume") from None
        except FloatingPointError as error:
            raise SystemExit(f"stopped: {error}") from None
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None

    def be_told(self, which: int, _: object) -> None:
        """Note a signal; Ctrl-C after it ends the run at once."""
        self.stopped_by = self.stopped_by or which
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def steps(self) -> Iterator[int]:
        """Number the updates that are still to be made."""
        for step in range(self.done + 1, self.total_step + 1):
            self.step = step
            yield step

    def add(self, weight: float, **values: Tensor) -> None:
        """Take what a micro-batch gave, see `Meter.add`; `loss` has to be finite."""
        self.meter.add(weight, **values)
        self.expect_finite(values["loss"])

    def update(self, step: int, made: dict[str, float | Tensor]) -> None:
        """Count an update, made with these learning rates and gradients; write an entry where one is due."""
        norms = {name: value for name, value in made.items() if isinstance(value, Tensor)}
        self.meter.count(**norms)
        for norm in norms.values():
            self.expect_finite(norm)
        self.advance()
        if is_due(step, self.pace.log_step, self.total_step):
            self.check()
            means = self.meter.mean(step)
            self.scalars(step, means | {name: value for name, value in made.items() if isinstance(value, float)})
            self.watch(step, means.get("target_spread"))

    def expect_finite(self, value: Tensor) -> None:
        """Note the update if a value is not finite, without waiting for a GPU."""
        bad = (~torch.isfinite(value.detach())).long() * self.step
        self.bad = bad if self.bad is None else torch.where(self.bad > 0, self.bad, bad.to(self.bad.device))

    def check(self) -> None:
        """End the run if something was not finite.

        Raises:
            FloatingPointError: With the update, its rows, and what is left.
        """
        if not (step := distributed.largest(0 if self.bad is None else int(self.bad))):
            return
        last = max(list_checkpoints(self.run_dir), default=None)
        good = "no checkpoint before it" if last is None else f"last good checkpoint: model-{last}.pt"
        rows = f" (rows {', '.join(self.locate(step))})" if self.locate else ""
        raise FloatingPointError(
            f"update {step}: loss or gradient is not finite{rows}; {good}; lower the learning rate or the loss weights"
        )

    def save(self, step: int, model: nn.Module, gates: nn.Module | None = None) -> None:
        """Save a checkpoint where one is due, and the state there and in between; stop if told to."""
        stopped_by = distributed.largest(self.stopped_by or 0)
        checkpoint = is_due(step, self.pace.ckpt_step, self.total_step)
        if not (checkpoint or stopped_by or step % self.pace.state_step == 0):
            return
        self.check()
        if checkpoint:
            save_checkpoint(self.run_dir, step, model, gates)
            if self.pace.keep_last:
                drop_checkpoints(self.run_dir, list_checkpoints(self.run_dir)[: -self.pace.keep_last])
        if self.snapshot and step < self.total_step:
            self.snapshot.save(step, self.state())
        if stopped_by and step < self.total_step:
            logger.warning("stopped by %s after update %d", signal.Signals(stopped_by).name, step)
            logger.warning("the same command with --resume goes on from there")
            raise SystemExit(128 + stopped_by)

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


def write_curves(log_dir: Path, what: str, curves: dict[str, Curve]) -> None:
    """Write whole curves to TensorBoard, by name, in place of those that were written under the same `what`."""
    for old in log_dir.glob(f"events.*.{what}"):
        old.unlink()
    with SummaryWriter(str(log_dir), filename_suffix=f".{what}") as board:
        for name, curve in curves.items():
            for step, value in curve.items():
                board.add_scalar(name, value, step)


def is_due(step: int, every: int, last: int) -> bool:
    """Whether something done every `every` updates, and after the last one, is due."""
    return step % every == 0 or step == last
