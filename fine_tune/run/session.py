"""A training run under way, as a loop sees it: its updates, and what it writes down.

It writes TensorBoard, `metrics.jsonl`, checkpoints, states to resume from and a progress line; only the first process
does.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from fine_tune.data.batches import Batch
from fine_tune.files import first_line
from fine_tune.flags.shared import Pace
from fine_tune.hardware import distributed, rank
from fine_tune.hardware.device import Elsewhere
from fine_tune.hardware.host import heard, ran_out
from fine_tune.model.checkpoint import drop_checkpoints, list_checkpoints, save_checkpoint
from fine_tune.model.part import TrainedPart
from fine_tune.model.placement import compile_seconds
from fine_tune.run import memory
from fine_tune.run.folder import finish_run
from fine_tune.run.history import read_log
from fine_tune.run.meter import Meter
from fine_tune.run.optim import Updater
from fine_tune.run.state import Snapshot
from fine_tune.run.tensorboard import write_curves, write_scores
from fine_tune.teacher.protocol import Teacher, announced

logger = logging.getLogger(__name__)

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals after which a run finishes its update, saves its state, and ends."""


class Watch(Protocol):
    """What a method wants looked at while it trains: a warning, say, once a value goes wrong."""

    def __call__(self, step: int, means: dict[str, float]) -> None:
        """Look at the means of a log entry."""

    def state(self) -> dict[str, Any]:
        """Give what `restore` needs."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state; it is flat, and others keep their values in it, too."""


class Work(NamedTuple):
    """What a session trains, and with what.

    Attributes:
        modules: The parts that are trained, by the prefix of their flags: "" is the student. Not wrapped for several
            processes. A part names what is saved of it (`saved`) and clipped (`clipped`).
        devices: Where they are.
        updater: Of those parts.
        batches: Gives this process's micro-batches, update after update, after a number of updates.
        teacher: Told of each update beforehand; None where there is none.
        watch: What the method wants watched.
        locate: Names the rows of an update, for messages.
        staged: Whether some parameters learn nothing in some updates; several processes have to look for them.
    """

    modules: Mapping[str, TrainedPart]
    devices: Mapping[str, torch.device]
    updater: Updater
    batches: Callable[[int], Iterator[list[Batch]]]
    teacher: Teacher | None = None
    watch: Watch | None = None
    locate: Callable[[int], list[str]] | None = None
    staged: bool = False


class Session:
    """A training run; a context manager.

    On SIGTERM, SIGHUP or Ctrl-C it finishes the update, saves a state to resume from, and exits; a second Ctrl-C ends
    it at once. The last update makes a log entry and a checkpoint, whatever the pace.

    Args:
        work: What is trained.
        run_dir: Folder for `metrics.jsonl` and checkpoints.
        log_dir: Folder for TensorBoard.
        pace: Updates between two entries, checkpoints, states.
        total_step: Updates in all.
        snapshot: The run's state; where there is one on disk, the session continues from it.

    Raises:
        ValueError: The state on disk does not fit.
    """

    stopped_by: int | None = None
    """Signal that told the run to stop."""
    again = "the same command with --resume"
    """What continues it."""

    def __init__(
        self,
        work: Work,
        run_dir: Path,
        log_dir: Path,
        pace: Pace,
        total_step: int,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.work = work
        self.run_dir = run_dir
        self.log_dir = log_dir
        self.pace = pace
        self.snapshot = snapshot
        self.total_step = total_step
        self.done = 0
        self.now = 0
        self.bad: Tensor | None = None
        self.meter = Meter()
        self.file = run_dir / "metrics.jsonl"
        if snapshot and snapshot.file.is_file():
            self.restore(*snapshot.load())
        look: dict[str, Any] = {"unit": "step", "dynamic_ncols": True, "mininterval": 1, "disable": not rank.is_main()}
        self.bar = tqdm(total=total_step, initial=self.done, **look)
        if rank.is_main():
            self.board = SummaryWriter(str(log_dir))
            self.lines = self.file.open("a", encoding="utf-8")
        if snapshot and not self.done:
            snapshot.save(0, self.state())  # from now on there is always something to resume from
        self.models = wrapped(work)

    def restore(self, step: int, state: dict[str, Any]) -> None:
        """Restore the records as they were after update `step`; what was written after that is dropped."""
        self.done = step
        self.meter.restore(state["meter"])
        if self.work.watch:
            self.work.watch.restore(state)
        if rank.is_main():
            os.truncate(self.file, state["bytes"])
            shutil.rmtree(self.log_dir.resolve(), ignore_errors=True)
            logged = {f"train/{name}": curve for name, curve in read_log(self.file).items()}
            write_curves(self.log_dir, "train", logged)
            for file in self.run_dir.glob("eval_*.json"):
                write_scores(self.log_dir, file)

    def state(self) -> dict[str, Any]:
        """Give what `restore` needs."""
        if rank.is_main():
            os.fsync(self.lines.fileno())
        written = self.file.stat().st_size if rank.is_main() else 0
        watched = self.work.watch.state() if self.work.watch else {}
        return {"meter": self.meter.state(), "bytes": written} | watched

    def __enter__(self) -> "Session":
        self.handlers = {which: signal.signal(which, self.note_signal) for which in heard(*STOP)}
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for which, handler in self.handlers.items():
            signal.signal(which, handler)
        with contextlib.suppress(OSError):
            self.bar.close()
        with self.explained():
            try:
                if rank.is_main():
                    for file in (self.lines, self.board):
                        file.close()
            finally:
                if error:
                    raise error
            finish_run(self.run_dir)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """End the run with one line where a file cannot be written, a loss is not finite, or there is no memory left.

        Raises:
            SystemExit: With exit code 1.
        """
        try:
            yield
        except OSError as error:
            raise SystemExit(f"stopped at update {self.now}: {error}; mend that, then {self.again} continues") from None
        except FloatingPointError as error:
            raise SystemExit(f"stopped: {error}") from None
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            what = f"no memory left ({first_line(error)})"
            raise SystemExit(f"stopped at update {self.now}: {what}; {memory.LESS}") from None
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None

    def note_signal(self, which: int, _: object) -> None:
        """Note a signal; Ctrl-C after it ends the run at once."""
        self.stopped_by = self.stopped_by or which
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def updates(self, until: int | None = None) -> Iterator[Iterator[Batch]]:
        """Give the updates that are still to be made, each as its micro-batches on the student's device.

        Args:
            until: Number of the last one, for a loop that is one stage of a run; None for the run's last.
        """
        batches = self.work.batches(max(self.done, self.now))
        if self.work.teacher:
            batches = announced(batches, self.work.teacher)
        for _, update in zip(self.steps(until), batches, strict=False):
            ready = distributed.micro_batches(update, *self.models.values())
            yield (batch.to(self.work.devices[""]) for batch in ready)

    def steps(self, until: int | None = None) -> Iterator[int]:
        """Number the updates that are still to be made, see `updates`."""
        last = self.total_step if until is None else min(until, self.total_step)
        for step in range(max(self.done, self.now) + 1, last + 1):
            self.now = step
            yield step

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss."""
        self.work.updater.backward(loss)

    def add(self, weight: float, **values: Tensor) -> None:
        """Record what a micro-batch gave, see `Meter.add`; `loss` is among the values and has to be finite."""
        self.meter.add(weight, **values)
        self.expect_finite(values["loss"])

    def step(self) -> None:
        """Update the parts: clip, step, decay. Then write what is due, and stop if told to."""
        self.record(self.work.updater.step())
        self.save()

    def record(self, made: dict[str, float | Tensor]) -> None:
        """Count an update, made with these learning rates and gradients; write an entry where one is due."""
        norms = {name: value for name, value in made.items() if isinstance(value, Tensor)}
        self.meter.count(**norms)
        for norm in norms.values():
            self.expect_finite(norm)
        self.advance()
        if self.is_due(self.pace.log_step):
            self.check()
            means = self.meter.mean(self.now)
            self.scalars(means | {name: value for name, value in made.items() if isinstance(value, float)})
            if self.work.watch:
                self.work.watch(self.now, means)

    def end_entry(self) -> None:
        """Write the entry that is begun, of a run that ends before its last update."""
        if self.meter.total:
            self.scalars(self.meter.mean(self.now))

    def expect_finite(self, value: Tensor) -> None:
        """Note the update if a value is not finite, without waiting for a GPU."""
        bad = (~torch.isfinite(value.detach())).long() * self.now
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
        rows = f" (rows {', '.join(self.work.locate(step))})" if self.work.locate else ""
        raise FloatingPointError(
            f"update {step}: loss or gradient is not finite{rows}; {good}; lower the learning rate or the loss weights"
        )

    def save(self) -> None:
        """Save a checkpoint where one is due, and the state there and in between; stop if told to.

        Parts come first, the model last, then what `--keep_last` drops, then the state, but for the last update.
        """
        stopped_by, goes_on = distributed.largest(self.stopped_by or 0), self.now < self.total_step
        checkpoint = self.is_due(self.pace.ckpt_step)
        if not (checkpoint or stopped_by or self.now % self.pace.state_step == 0):
            return
        self.check()
        if checkpoint:
            self.work.updater.catch_up()
            saved = {name: module for part in self.work.modules.values() for name, module in part.saved().items()}
            save_checkpoint(self.run_dir, self.now, saved)
            if self.pace.keep_last:
                drop_checkpoints(self.run_dir, list_checkpoints(self.run_dir)[: -self.pace.keep_last])
        if self.snapshot and goes_on:
            self.snapshot.save(self.now, self.state())
        if stopped_by and goes_on:
            logger.warning("stopped by %s after update %d", signal.Signals(stopped_by).name, self.now)
            logger.warning("%s continues from there", self.again)
            raise SystemExit(128 + stopped_by)

    def is_due(self, every: int) -> bool:
        """Whether something done every `every` updates, and after the last one, is due."""
        return self.now % every == 0 or self.now == self.total_step

    def advance(self) -> None:
        """Move the progress line, if the terminal is still there."""
        with contextlib.suppress(OSError):
            self.bar.update()

    def scalars(self, values: dict[str, float]) -> None:
        """Write one entry under `train/`."""
        if not rank.is_main():
            return
        for name, value in values.items():
            self.board.add_scalar(f"train/{name}", value, self.now)
        print(json.dumps({"step": self.now, **values}), file=self.lines, flush=True)
        losses = {name: f"{value:.4f}" for name, value in values.items() if name.endswith("loss")}
        compiled = {"compiled": f"{seconds:.0f} s"} if (seconds := compile_seconds()) else {}
        self.bar.set_postfix(losses | compiled, refresh=False)


def wrapped(work: Work) -> dict[str, nn.Module]:
    """Wrap the parts for a loop: shared by the run's processes, fed from the student's device."""
    home = work.devices[""]
    models: dict[str, nn.Module] = {}
    for prefix, module in work.modules.items():
        device = work.devices[prefix]
        models[prefix] = distributed.wrap(module, work.staged) if device == home else Elsewhere(module, device, home)
    return models
