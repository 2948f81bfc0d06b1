"""Tests of what contrast asks of the data: class-balanced batches, and rows to contrast with."""

from collections import Counter

import numpy as np
import pytest

from fine_tune.data.batches import Deal, updates
from fine_tune.data.contrast import Negatives, balanced, check_classes, distinct, queue
from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.flags.shared import RunConfig
from fine_tune.tasks.table import TASKS


class Rows:
    """As much of a split as the order asks for."""

    def __init__(self, label, lengths=None, task="mnli") -> None:
        self.label, self.task, self.name = np.array(label), TASKS[task], "train"
        self.lengths = np.full(len(self.label), 9) if lengths is None else np.array(lengths)

    def __len__(self) -> int:
        return len(self.label)


def some_rows(count=300, classes=3, seed=0):
    """Rows of unlike classes and of different lengths."""
    draw = np.random.default_rng(seed)
    label = draw.choice(classes, size=count, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    return Rows(label, draw.integers(5, 60, count))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(("classes", "size"), [(2, 16), (3, 12), (3, 32), (2, 7)])
def test_every_class_has_as_many_rows_in_a_batch_in_a_share_and_in_a_micro_batch(classes, size, processes):
    rows = some_rows(classes=classes)
    batches = balanced(rows, size, 7, 0, processes)
    assert len(batches) == -(-len(rows) // size) and {len(batch) for batch in batches} == {size}
    for batch in batches:
        for process in range(processes):
            share = rows.label[batch[process::processes]]
            for part in (share, share[: len(share) // 2]):
                count = np.bincount(part, minlength=classes)
                assert count.max() - count.min() <= 1, (batch, process)
        assert len(set(batch)) == size  # no row twice


def test_a_class_smaller_than_its_share_of_a_batch_repeats():
    """Two rows of 40 have to fill half of every batch of 8."""
    (*batches,) = balanced(Rows([0] * 38 + [1] * 2), 8, 7, 0, 1)
    for batch in batches:
        assert Counter(batch[batch >= 38].tolist()) == {38: 2, 39: 2}


def test_the_order_is_a_function_of_seed_and_epoch():
    rows = some_rows()
    assert all(map(np.array_equal, balanced(rows, 12, 7, 3, 1), balanced(rows, 12, 7, 3, 1)))
    for other in ((8, 3), (7, 4)):
        assert not all(map(np.array_equal, balanced(rows, 12, 7, 3, 1), balanced(rows, 12, *other, 1)))


def test_rows_of_a_class_come_equally_often():
    """Over six epochs, none more than once more often than another, where classes divide the batch."""
    rows = some_rows()
    seen = Counter(np.concatenate([np.concatenate(balanced(rows, 12, 7, epoch, 1)) for epoch in range(6)]).tolist())
    for name in range(3):
        counts = [seen[row] for row in np.flatnonzero(rows.label == name)]
        assert max(counts) - min(counts) <= 1, name


def test_rows_of_a_batch_have_nearly_one_length():
    """Less than a quarter of the padding of a random order."""
    rows = some_rows(2000)
    padding = [np.mean([rows.lengths[batch].max() - rows.lengths[batch].mean() for batch in batches]) for batches in (
        balanced(rows, 24, 7, 0, 1), np.split(np.random.default_rng(0).permutation(2000)[:1992], 83)
    )]  # fmt: skip
    assert padding[0] < 0.25 * padding[1]


def test_a_queue_goes_on_where_it_stopped():
    members = np.array([3, 5, 8, 9])
    whole = queue(members, 0, 22, [1])
    assert np.array_equal(np.concatenate([queue(members, 0, 9, [1]), queue(members, 9, 13, [1])]), whole)
    assert all(set(whole[at : at + 4]) == set(members) for at in range(0, 20, 4))


@pytest.mark.parametrize("by_label", [False, True])
@pytest.mark.parametrize("count", [1, 5, 20])
def test_negatives_are_other_rows_and_none_twice(count, by_label):
    rows = some_rows(60)
    draw = Negatives(rows, count, by_label, seed=3)
    asked = np.arange(60)
    for update in range(5):
        drawn = draw(asked, update)
        assert drawn.shape == (60, count) and drawn.min() >= 0 and drawn.max() < 60
        assert all(len(set(mine)) == count and row not in mine for row, mine in zip(asked, drawn.tolist(), strict=True))
        if by_label:
            assert (rows.label[drawn] != rows.label[:, None]).all()


def test_negatives_are_a_function_of_seed_and_update():
    rows, asked = some_rows(), np.arange(20)
    draw = Negatives(rows, 9, False, seed=3)
    assert np.array_equal(draw(asked, 4), Negatives(rows, 9, False, seed=3)(asked, 4))
    assert not np.array_equal(draw(asked, 4), draw(asked, 5))
    assert not np.array_equal(draw(asked, 4), Negatives(rows, 9, False, seed=4)(asked, 4))


@pytest.mark.parametrize("count", [2, 4, 7])
def test_every_number_is_drawn_as_often(count):
    """Chi-squared over 20,000 draws; 9 numbers: below 27.9 but for one time in 2,000."""
    drawn = distinct(np.full(20000, 9), count, np.random.default_rng(5))
    assert all(len(set(row)) == count for row in drawn[:2000].tolist())
    seen, wanted = np.bincount(drawn.ravel(), minlength=9), 20000 * count / 9
    assert ((seen - wanted) ** 2 / wanted).sum() < 27.9
    pairs = Counter(map(frozenset, drawn[:, :2].tolist()))
    assert len(pairs) == 36 and max(pairs.values()) < 1.25 * min(pairs.values())


@pytest.mark.parametrize(("count", "by_label", "told"), [
    (8, False, "--neg_num 8: a row of mnli train has 7 other rows"),
    (3, True, "--neg_num 3: a row of mnli train has 2 rows of another label"),
])  # fmt: skip
def test_more_negatives_than_there_are_rows_are_refused(count, by_label, told):
    with pytest.raises(ValueError, match=told):
        Negatives(Rows([0] * 6 + [1, 2]), count, by_label, seed=1)
    Negatives(Rows([0] * 6 + [1, 2]), count - 1, by_label, seed=1)(np.arange(8), 0)


def test_scores_are_no_labels():
    with pytest.raises(ValueError, match="--defined_by_label: stsb has scores, not classes"):
        Negatives(Rows([0.5, 1.0, 2.5], task="stsb"), 1, True, seed=1)
    Negatives(Rows([0.5, 1.0, 2.5], task="stsb"), 1, False, seed=1)


def test_micro_batches_too_small_for_the_classes_are_refused():
    cfg = RunConfig(experiment="x", task="mnli", batch_size=20, accum_step=4)
    with pytest.raises(ValueError, match="--batch_size 20: 5 rows to a micro-batch .* 3 classes; give at least 24"):
        check_classes(Rows([0, 1, 2]), cfg)
    with pytest.raises(ValueError, match="--task stsb: a supervised contrast needs classes"):
        check_classes(Rows([0.5], task="stsb"), cfg)


def test_processes_and_micro_batches_share_an_updates_rows_and_negatives(data, encoder):
    """Together they have what one process alone has."""
    rows = load_split(TASKS["sst2"], "train", load_tokenizer(encoder), 24)
    deal = Deal(balanced, Negatives(rows, 4, True, seed=3))

    def pairs(**options):
        update = next(updates(rows, deal=deal, batch_size=8, seed=3, start=4, **options))
        return {
            int(row): mine.tolist() for batch in update for row, mine in zip(batch.rows, batch.negatives, strict=True)
        }

    whole = pairs()
    assert len(whole) == 8 and pairs(accum_step=2) == whole
    two = [pairs(process=process, world_size=2) for process in (0, 1)]
    assert not set(two[0]) & set(two[1]) and len(two[0] | two[1]) == 8
    for share in two:
        assert sorted(rows.label[list(share)].tolist()) == [0, 0, 1, 1]
