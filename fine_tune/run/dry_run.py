"""A run tried for some seconds, four updates at the least, that leaves nothing (`--dry_run`): its time, its memory."""

import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fine_tune.hardware import distributed
from fine_tune.run.process import print_table
from fine_tune.run.session import Session, Work, wrapped

SECONDS = 8.0
WARM_UP = 4
"""Updates that are not counted: three, and the one with the most tokens, which sets the peak of memory."""


class DryRun(Session):
    """A session that ends after some seconds, writes nothing, and says what the whole run would take.

    Args:
        work: What is trained.
        folder: Where the run would be.
        total_step: Updates in all.
        facts: What else to say, by name.
    """

    def __init__(self, work: Work, folder: Path, total_step: int, facts: Mapping[str, object]) -> None:
        self.work = work
        self.run_dir = folder
        self.total_step = total_step
        self.facts = facts
        self.done = 0
        self.now = 0
        self.bad = None
        self.models = wrapped(work)
        self.reached = 0
        self.stages: list[tuple[int, list[float]]] = []

    def __enter__(self) -> "DryRun":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self.explained():
            if error:
                raise error
            whole = sum(updates * pace(times) for updates, times in self.stages)
            tried = sum(len(times) - 1 for _, times in self.stages)
            gpu = f", GPU {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if torch.cuda.is_available() else ""
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            found = {
                "updates": f"{self.total_step}, {tried} of them tried",
                "time": f"{1000 * whole / self.total_step:.0f} ms an update, {clock(whole)} in all, without scoring",
                "peak memory": f"{peak:.2f} GB{gpu}",
            }
            print_table("Dry run: nothing is written", {**self.facts, **found})

    def steps(self, until: int | None = None) -> Iterator[int]:
        """Number some updates of a stage."""
        last = self.total_step if until is None else min(until, self.total_step)
        start, times = time.perf_counter(), [time.perf_counter()]
        self.stages.append((last - self.reached, times))
        self.now = self.reached
        for number, step in enumerate(super().steps(until), start=1):
            yield step
            times.append(time.perf_counter())
            late = number > WARM_UP and times[-1] - start > SECONDS
            if distributed.largest(late):  # all processes stop at the same update
                break
        self.reached = last

    def add(self, weight: float, **values: Tensor) -> None:
        """Keep no record; `loss` has to be finite."""
        self.expect_finite(values["loss"])

    def record(self, made: dict[str, float | Tensor]) -> None:
        """Wait for a GPU, whose time counts; gradients have to be finite, too."""
        for value in made.values():
            if isinstance(value, Tensor):
                self.expect_finite(value)
        self.check()

    def save(self) -> None:
        """Save nothing."""


def pace(times: list[float]) -> float:
    """Seconds of an update, by the moments at which those of a stage ended; the first ones are not counted."""
    counted = times[WARM_UP:] if len(times) > WARM_UP + 1 else times
    return (counted[-1] - counted[0]) / max(1, len(counted) - 1)


def clock(seconds: float) -> str:
    """Write a duration."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{seconds / 60:.1f} min"
