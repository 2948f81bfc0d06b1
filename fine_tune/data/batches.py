"""Rows to batches: the order is a pure function, rows of a batch have one length where possible.

The order depends only on (rows, batch_size, seed, epoch, processes): a run can resume at any update, and nothing else
that draws random numbers can change it. Shapes: B batch, S tokens, K negatives.

Departure from the released code, which pads every sentence to `max_seq_len`: rows of the same length share a batch
without padding; what is left over of each length fills batches of neighbouring lengths, padded to their longest row.
Orders in which all classes come alike, and rows to contrast with: `contrast`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fine_tune.data.tokens import Inputs, Split
from fine_tune.flags.shared import RunConfig
from fine_tune.hardware import rank
from fine_tune.hardware.device import to_device


@dataclass
class Batch:
    """A micro-batch.

    Attributes:
        rows: (B,) row numbers.
        student: The student's inputs.
        teacher: The teacher's inputs, of its own tokenizer; the same object where the tokenizers agree.
        label: (B,), or (B, C) where several may hold; of rows without gold labels None, which `hard_target_loss` alone
            takes.
        mask: (B, S), 1 for real tokens; None where there is no padding, or where it counts.
        weight: Share of this micro-batch in its update.
        negatives: (B, K) rows that each row is contrasted with, where a method does that.
        multi: Several labels may hold for a row.
    """

    rows: NDArray[np.int64]
    student: Inputs
    teacher: Inputs
    label: Tensor
    mask: Tensor | None
    weight: float
    negatives: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))
    multi: bool = False

    def to(self, device: torch.device) -> "Batch":
        """Put what the student and the losses read on a device; a teacher elsewhere fetches its inputs itself."""
        student = to_device(self.student, device)
        return dataclasses.replace(
            self,
            student=student,
            teacher=student if self.teacher is self.student else self.teacher,
            label=to_device(self.label, device),
            mask=to_device(self.mask, device),
        )


def by_length(rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split rows by their length, the shortest first; rows of one length keep their order."""
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(lengths[rows])) + 1)


def batch_rows(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Cut one epoch into batches, as many as possible of a single length; every row once, at most one short batch."""
    generator = np.random.default_rng([seed, epoch])
    batches, rest = [], []
    for alike in by_length(generator.permutation(len(lengths)), lengths):
        full = len(alike) // batch_size * batch_size
        batches += np.split(alike[:full], full // batch_size) if full else []
        rest.append(alike[full:])
    left = np.concatenate(rest)
    batches += np.split(left, range(batch_size, len(left), batch_size)) if len(left) else []
    return [batches[index] for index in generator.permutation(len(batches))]


def shuffled(rows: Split, batch_size: int, seed: int, epoch: int, _: int) -> list[NDArray[np.int64]]:
    """Cut one epoch of a split into batches, see `batch_rows`."""
    return batch_rows(rows.lengths, batch_size, seed, epoch)


class Deal(NamedTuple):
    """What decides which rows come when, beside batch size and seed.

    Attributes:
        order: Cuts one epoch of a split into the rows of every update: (split, batch_size, seed, epoch, processes).
        negatives: Draws (B, K) rows to contrast the B rows of an update with, given these and its 0-based number.
    """

    order: Callable[[Split, int, int, int, int], list[NDArray[np.int64]]] = shuffled
    negatives: Callable[[NDArray[np.int64], int], NDArray[np.int64]] | None = None


SHUFFLED = Deal()


def updates(
    student: Split,
    teacher: Split | None = None,
    *,
    deal: Deal = SHUFFLED,
    batch_size: int,
    accum_step: int = 1,
    seed: int,
    pad_to: int | None = None,
    start: int = 0,
    process: int = 0,
    world_size: int = 1,
) -> Iterator[list[Batch]]:
    """Give the micro-batches of update after update, without end, from update `start` (0-based) on.

    Args:
        student: The rows as the student reads them; their lengths decide the order.
        teacher: The same rows as the teacher reads them; None if both read the same.
        deal: Their order, and what they are contrasted with.
        batch_size: Rows per update; an epoch's last update may have fewer.
        accum_step: Micro-batches that every process cuts its share of an update into.
        seed: Seed of the order.
        pad_to: Pad to this many tokens, what a teacher reads of its own to its own length, and let padding count
            (released); None pads to the longest and masks.
        start: First update.
        process: Number of this process.
        world_size: Processes; every one takes every `world_size`-th row, so that all have rows of the same lengths.
    """
    label = None if student.label is None else torch.from_numpy(np.array(student.label))
    micro_size = -(-batch_size // (accum_step * world_size))

    def micro_batch(rows: NDArray[np.int64], negatives: NDArray[np.int64], weight: float) -> Batch:
        inputs = student.inputs(rows, pad_to)
        return Batch(
            rows=rows,
            student=inputs,
            teacher=inputs if teacher is None else teacher.inputs(rows, pad_to and teacher.max_seq_len),
            label=cast(Tensor, None if label is None else label[rows]),
            mask=None if pad_to else inputs["attention_mask"],
            weight=weight,
            negatives=negatives,
            multi=student.task.multi,
        )

    def share(rows: NDArray[np.int64], update: int) -> list[Batch]:
        # Drawn for the update as a whole: they do not depend on processes and micro-batches.
        drawn = deal.negatives(rows, update) if deal.negatives else np.empty((len(rows), 0), np.int64)
        mine, others = rows[process::world_size], drawn[process::world_size]
        if len(mine) == 0:  # the other processes wait for this one all the same
            return [micro_batch(rows[:1], drawn[:1], 0.0)]
        parts = [slice(at, at + micro_size) for at in range(0, len(mine), micro_size)]
        # Gradients are averaged over the processes.
        return [micro_batch(mine[part], others[part], world_size * len(mine[part]) / len(rows)) for part in parts]

    def forever() -> Iterator[list[Batch]]:
        update = start
        epoch, skip = divmod(start, -(-len(student) // batch_size))
        while True:
            for rows in deal.order(student, batch_size, seed, epoch, world_size)[skip:]:
                yield share(rows, update)
                update += 1
            epoch, skip = epoch + 1, 0

    return forever()


def updates_of(
    cfg: RunConfig, rows: Split, done: int = 0, teacher: Split | None = None, deal: Deal = SHUFFLED
) -> Iterator[list[Batch]]:
    """Give this process its micro-batches of a run, update after update, without end, after the first `done`."""
    return updates(
        rows,
        teacher,
        deal=deal,
        batch_size=cfg.batch_size,
        accum_step=cfg.accum_step,
        seed=cfg.seed,
        pad_to=rows.max_seq_len if cfg.pad_to_max else None,
        start=done,
        process=rank.rank(),
        world_size=rank.world_size(),
    )


def batch_tokens(cfg: RunConfig, rows: Split, total_step: int, deal: Deal = SHUFFLED) -> NDArray[np.int64]:
    """Count the tokens, padding included, of every update in the first epoch of a run, or of all if they are fewer."""
    batches = deal.order(rows, cfg.batch_size, cfg.seed, 0, rank.world_size())[:total_step]
    return np.array([
        len(batch) * (rows.max_seq_len if cfg.pad_to_max else rows.lengths[batch].max()) for batch in batches
    ])  # fmt: skip


def trial_updates(
    given: Callable[[int], Iterator[list[Batch]]], tokens: NDArray[np.int64], first: int
) -> Iterator[list[Batch]]:
    """Give the `first` updates of a run, the one with the most tokens, then those that follow.

    Args:
        given: Gives the run's updates after a number of them.
        tokens: Of every update, see `batch_tokens`.
        first: How many come before the one with the most.
    """
    yield from itertools.islice(given(0), first)
    yield next(given(int(tokens.argmax())))
    yield from given(first)


def row_ids(cfg: RunConfig, rows: Split, step: int, deal: Deal = SHUFFLED) -> list[str]:
    """Name the rows of update `step`, counted from 1, of all processes, by their ids in the data."""
    epoch, number = divmod(step - 1, -(-len(rows) // cfg.batch_size))
    order = deal.order(rows, cfg.batch_size, cfg.seed, epoch, rank.world_size())
    return [str(rows.row_id[row]) for row in order[number]]
