"""What contrast asks of the order of the data: batches in which all classes come alike, rows to contrast with.

Both are pure functions of the rows and (seed, epoch), or (seed, update): runs resume exactly, several processes agree.
Shapes: B batch, K negatives.

Departures from the released code:
1. A class's rows come without replacement, again from the start once all have come; the released code draws each anew.
2. Rows of a batch have nearly the same length, which saves padding.
3. Negatives do not depend on workers or on epochs before; drawing them never lists all candidates of a row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fine_tune.data.tokens import Split
from fine_tune.flags.shared import RunConfig
from fine_tune.hardware import rank


def balanced(rows: Split, batch_size: int, seed: int, epoch: int, processes: int) -> list[NDArray[np.int64]]:
    """Cut one epoch into batches in which every class has the same number of rows, but for one.

    An epoch has as many batches as one of all rows, so that rows of small classes come more than once, but not in one
    batch, unless the class is hardly larger than its share of it. Classes take turns, so that every process's share,
    and every micro-batch of it, is balanced, too.
    """
    assert rows.label is not None
    count, lengths = -(-len(rows) // batch_size), rows.lengths
    generator = np.random.default_rng([seed, epoch])
    place = generator.permutation(len(rows))  # among rows of one length
    names = np.unique(rows.label)
    turns = (np.arange(count * batch_size) // processes % len(names)).reshape(count, batch_size)
    batches = np.empty((count, batch_size), np.int64)
    for number, name in enumerate(names):
        places = turns == number
        most = int(places.sum(1).max())
        members = np.flatnonzero(rows.label == name)
        drawn = queue(members, epoch * count * most, count * most, [seed, number])
        drawn = drawn[np.lexsort((place[drawn], lengths[drawn]))]
        # A row's copies follow one another; dealt out over as many batches, each gets one.
        copies = int(np.bincount(drawn).max())
        for together in np.array_split(np.arange(count), max(1, count // copies)):
            dealt = drawn[together[0] * most : (together[-1] + 1) * most].reshape(most, len(together))
            for batch, mine in zip(together, generator.permuted(dealt, axis=0).T, strict=True):
                batches[batch, places[batch]] = mine[: places[batch].sum()]
    return list(batches[generator.permutation(count)])


def queue(members: NDArray[np.int64], start: int, count: int, seed: list[int]) -> NDArray[np.int64]:
    """Take `count` from an endless queue, from place `start` on: all members in some order, then all in another, ..."""
    first, skip = divmod(start, len(members))
    rounds = range(first, -(-(start + count) // len(members)))
    orders = [np.random.default_rng([*seed, number]).permutation(members) for number in rounds]
    return np.concatenate(orders)[skip : skip + count]


def check_classes(rows: Split, cfg: RunConfig) -> None:
    """Refuse rows without classes, and micro-batches that cannot hold two rows of each, so that each has a like one.

    Raises:
        ValueError: With what is needed.
    """
    if rows.task.kind != "single":
        kind = "scores" if rows.task.regression else "several labels to a row"
        raise ValueError(f"--task {rows.task.name}: a supervised contrast needs classes, this task has {kind}")
    parts = cfg.accum_step * rank.world_size()
    size, need = cfg.batch_size // parts, 2 * rows.task.num_class
    if size < need:
        what = f"{size} rows to a micro-batch are too few for a contrast of {rows.task.num_class} classes"
        raise ValueError(f"--batch_size {cfg.batch_size}: {what}; give at least {need * parts}, or fewer --accum_step")


class Negatives:
    """Draws K rows for every row of an update, none twice: never the row itself, or none of its label.

    Args:
        rows: The split.
        count: K.
        by_label: Draw rows of other labels only.
        seed: Seed of the run.

    Raises:
        ValueError: A row has fewer others than K, or there are no labels.
    """

    def __init__(self, rows: Split, count: int, by_label: bool, seed: int) -> None:
        self.label, self.count, self.seed = np.asarray(rows.label), count, seed
        self.others: dict[Any, NDArray[np.int64]] = {}
        if by_label:
            if rows.task.kind != "single":
                kind = "scores" if rows.task.regression else "several labels to a row"
                raise ValueError(f"--defined_by_label: {rows.task.name} has {kind}, not classes; leave the flag out")
            self.others = {name: np.flatnonzero(self.label != name) for name in np.unique(self.label)}
        least = min((len(others) for others in self.others.values()), default=len(rows) - 1)
        if count > least:
            what = "rows of another label" if by_label else "other rows"
            raise ValueError(f"--neg_num {count}: a row of {rows.task.name} {rows.name} has {least} {what}")

    def __call__(self, rows: NDArray[np.int64], update: int) -> NDArray[np.int64]:
        """Draw for the rows (B,) of an update, of all processes: (B, K)."""
        generator = np.random.default_rng([self.seed, update, 1])
        if not self.others:
            drawn = distinct(np.full(len(rows), len(self.label) - 1), self.count, generator)
            return drawn + (drawn >= rows[:, None])  # all numbers but the row's own
        others = [self.others[name] for name in self.label[rows]]
        drawn = distinct(np.array([len(each) for each in others]), self.count, generator)
        return np.stack([each[places] for each, places in zip(others, drawn, strict=True)])


def distinct(sizes: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` different numbers below each of `sizes` (B,): (B, count); every set of them is as likely.

    Numbers that stand before in their row are drawn anew; where that would be most of them, all are put in some order.
    """
    if 2 * count > sizes.min():
        keys = generator.random((len(sizes), sizes.max()))
        keys[np.arange(sizes.max()) >= sizes[:, None]] = np.inf
        return keys.argsort(1)[:, :count]
    drawn = generator.integers(sizes[:, None], size=(len(sizes), count))
    while True:
        order = drawn.argsort(1, kind="stable")
        in_order = np.take_along_axis(drawn, order, 1)
        again = np.zeros(drawn.shape, bool)
        np.put_along_axis(again, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], 1)
        if not again.any():
            return drawn
        drawn[again] = generator.integers(np.broadcast_to(sizes[:, None], drawn.shape)[again])
