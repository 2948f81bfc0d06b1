"""What every training run needs first: devices, duration, batches, an optimiser; and a fresh teacher."""

import logging
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from fine_tune.data.batches import Batch, updates
from fine_tune.data.tokens import Split, load_tokenizer
from fine_tune.flags.shared import (
    EpochConfig,
    OptimConfig,
    RunConfig,
    SpeedConfig,
    StepConfig,
)
from fine_tune.hardware import rank as process
from fine_tune.hardware.device import resolve_device
from fine_tune.model.classifier import Classifier, pretrained_encoder
from fine_tune.model.load import check_tokenizer
from fine_tune.model.projection import ProjectedStudent, without_projection
from fine_tune.run.optim import Part
from fine_tune.tasks.table import Task

logger = logging.getLogger(__name__)


def updates_of(cfg: RunConfig, rows: Split, done: int = 0) -> Iterator[list[Batch]]:
    """Give this process its micro-batches, update after update, without end, after the first `done` updates."""
    return updates(
        rows,
        batch_size=cfg.batch_size,
        accum_step=cfg.accum_step,
        seed=cfg.seed,
        pad_to=rows.max_seq_len if cfg.pad_to_max else None,
        start=done,
        rank=process.rank(),
        world_size=process.world_size(),
    )


def row_ids(cfg: RunConfig, rows: Split, step: int) -> list[str]:
    """Name the rows of update `step`, counted from 1, of all processes, by their ids in the data."""
    (update,) = next(updates(rows, batch_size=cfg.batch_size, seed=cfg.seed, start=step - 1))
    return [str(rows.row_id[row]) for row in update.rows]


class Devices(NamedTuple):
    """Where the three models live."""

    teacher: torch.device
    student: torch.device
    gate: torch.device


def resolve_devices(student: int | None, teacher: int | None = None, gate: int | None = None) -> Devices:
    """Give each model its device; teacher and gates go where the student is unless told otherwise.

    Under torchrun every process has one device: a GPU of its own, or the CPU.

    Raises:
        ValueError: There is no such device, or torchrun is to place the models and a flag does, too.
    """
    if process.world_size() > 1:
        if teacher is not None or gate is not None or student not in (None, -1):
            raise ValueError(
                "under torchrun every process has one device: give --device_id -1 (CPU), or none of the flags"
            )
        student = student if student is not None or not torch.cuda.is_available() else process.local_rank()
    home = resolve_device(student)
    return Devices(
        teacher=home if teacher is None else resolve_device(teacher, "--tdevice_id"),
        student=home,
        gate=home if gate is None else resolve_device(gate, "--gate_device_id"),
    )


def resolve_duration(steps: StepConfig, epochs: EpochConfig, rows: int, batch_size: int) -> tuple[int, int]:
    """Turn epochs into updates: `total_step = round(rows / batch_size * epoch)`; the default is 3 epochs.

    Updates win where both are given, so that a recipe in epochs can be cut short.

    Returns:
        Updates in all, and updates of warm-up (at least 1 where it follows from `warmup_rate`).

    Raises:
        ValueError: Nothing would be trained.
    """
    if steps.total_step and epochs.epoch and steps.total_step != round(rows / batch_size * epochs.epoch):
        logger.info("--total_step %d takes the place of --epoch %g", steps.total_step, epochs.epoch)
        epochs.epoch = None
    epoch = epochs.epoch or 3
    total = steps.total_step or round(rows / batch_size * epoch)
    if total < 1:
        raise ValueError(f"--epoch {epoch:g} of {rows} rows is not one update of --batch_size {batch_size}")
    warmup = steps.warmup_step if steps.warmup_step is not None else max(1, round(total * epochs.warmup_rate))
    if warmup >= total:
        logger.warning(
            "warm-up (%d updates) is not over by the last update (%d): lr stays below its peak", warmup, total
        )
    return total, warmup


def part_of(model: nn.Module, device: torch.device, optim: OptimConfig, steps: StepConfig, speed: SpeedConfig) -> Part:
    """Give a classifier, and its projection if it has one, an optimiser with the duration that has been resolved."""
    assert steps.total_step is not None and steps.warmup_step is not None
    classifier = without_projection(model)
    modules = [classifier] if classifier is model else [classifier, cast(ProjectedStudent, model).projection]
    return Part(modules, optim, steps.total_step, steps.warmup_step, lazy_rows(classifier, device, speed))


def lazy_rows(model: nn.Module, device: torch.device, speed: SpeedConfig) -> nn.Embedding | None:
    """Give the embedding that is updated row by row, if any: on a CPU, and in one process."""
    if speed.lazy_embedding and device.type == "cpu" and process.world_size() == 1:
        return cast(nn.Embedding, cast(Classifier, model).encoder.get_input_embeddings())
    return None


def resolve_gate_duration(gate_steps: StepConfig, steps: StepConfig, epochs: EpochConfig) -> None:
    """Give the gates the student's schedule where theirs is left open."""
    if gate_steps.total_step is None and gate_steps.warmup_step is None:
        gate_steps.warmup_step = steps.warmup_step
    gate_steps.total_step = gate_steps.total_step or steps.total_step
    rate = EpochConfig(epoch=None, warmup_rate=epochs.warmup_rate)
    gate_steps.total_step, gate_steps.warmup_step = resolve_duration(gate_steps, rate, rows=0, batch_size=1)


def class_count(task: Task, given: int | None) -> int:
    """Take the number of classes from the task.

    Raises:
        ValueError: `--num_class` says otherwise.
    """
    if given not in (None, task.num_class):
        kind = "is a regression" if task.regression else f"has {task.num_class} classes"
        raise ValueError(f"--num_class {given}: {task.name} {kind}; leave the flag out")
    return task.num_class


def build_teacher(
    architecture: str, ptrain_ver: str, task: Task, dropout: float
) -> tuple[Classifier, PreTrainedTokenizerFast]:
    """Put a fresh classifier on a pre-trained encoder.

    Raises:
        ValueError: The encoder is of another architecture, or cannot be had.
    """
    encoder = pretrained_encoder(ptrain_ver, dropout)
    if encoder.config.model_type != architecture:
        raise ValueError(f"--model {architecture}: {ptrain_ver!r} is of the architecture {encoder.config.model_type}")
    model = Classifier(encoder, task.num_class, dropout)
    tokenizer = load_tokenizer(ptrain_ver)
    check_tokenizer(model, tokenizer, ptrain_ver)
    return model, tokenizer
