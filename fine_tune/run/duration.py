"""How long a run is: epochs become updates, once, before it starts."""

import dataclasses
import logging

from fine_tune.flags.shared import EpochConfig, StepConfig

logger = logging.getLogger(__name__)

DEFAULT_EPOCHS = 3


def settled_duration(
    steps: StepConfig, epochs: EpochConfig, rows: int, batch_size: int
) -> tuple[StepConfig, EpochConfig]:
    """Turn epochs into updates: `total_step = round(rows / batch_size * epoch)`.

    Updates win where both are given, so that a recipe in epochs can be cut short. Warm-up that follows from
    `warmup_rate` has at least one update.

    Raises:
        ValueError: Nothing would be trained.
    """
    if steps.total_step and epochs.epoch and steps.total_step != round(rows / batch_size * epochs.epoch):
        logger.info("--total_step %d replaces --epoch %g", steps.total_step, epochs.epoch)
        epochs = dataclasses.replace(epochs, epoch=None)
    epoch = epochs.epoch or DEFAULT_EPOCHS
    total = steps.total_step or round(rows / batch_size * epoch)
    if total < 1:
        raise ValueError(f"--epoch {epoch:g} of {rows} rows is not one update of --batch_size {batch_size}")
    warmup = steps.warmup_step if steps.warmup_step is not None else max(1, round(total * epochs.warmup_rate))
    return dataclasses.replace(steps, total_step=total, warmup_step=warmup), epochs


def settled_part_duration(own: StepConfig, steps: StepConfig, epochs: EpochConfig) -> StepConfig:
    """Give a part the student's schedule, `steps`, where its own leaves it open."""
    if own.total_step is None and own.warmup_step is None:
        own = dataclasses.replace(own, warmup_step=steps.warmup_step)
    own = dataclasses.replace(own, total_step=own.total_step or steps.total_step)
    rate = EpochConfig(epoch=None, warmup_rate=epochs.warmup_rate)
    return settled_duration(own, rate, rows=0, batch_size=1)[0]


def warn_of_warmup(steps: StepConfig, prefix: str = "") -> None:
    """Warn that the learning rate never reaches its peak, if the preflight that refuses this was skipped."""
    assert steps.warmup_step is not None and steps.total_step is not None
    if steps.warmup_step >= steps.total_step:
        logger.warning(
            "--%swarmup_step %d is not over by the last update (%d): lr stays below its peak",
            *(prefix, steps.warmup_step, steps.total_step),
        )


def warn_of_stage(flag: str, steps: int, duration: StepConfig) -> None:
    """Warn of a first stage, of so many `steps`, that is not over by the last update."""
    assert duration.total_step is not None
    if steps >= duration.total_step:
        logger.warning("--%s %d: the run ends at update %d, before the second stage", flag, steps, duration.total_step)
