"""Tests of the way from text to batches: order, cuts, padding, cache."""

import itertools
import logging
import multiprocessing
import os
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from fine_tune.data import tokens as module
from fine_tune.data.batches import batch_rows, updates
from fine_tune.data.tokens import load_labelled, load_split, load_tokenizer
from fine_tune.path import cache_dir
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import TASKS

LENGTHS = np.random.default_rng(0).integers(2, 60, 1003)


@pytest.fixture(scope="session")
def tokenizer(encoder):
    """The tiny tokenizer."""
    return load_tokenizer(encoder)


@pytest.fixture
def split(data, tokenizer):
    """24 tokenised rows of SST-2."""
    return load_split(TASKS["sst2"], "train", tokenizer, 24)


def flat(batches):
    """All rows in order."""
    return np.concatenate(batches).tolist()


@pytest.mark.parametrize(("count", "size"), [(1003, 32), (1003, 2), (64, 32), (5, 32), (1, 1), (7000, 16)])
def test_an_epoch_holds_every_row_exactly_once(count, size):
    batches = batch_rows(np.resize(LENGTHS, count), size, 42, 0)
    assert sorted(flat(batches)) == list(range(count))
    assert len(batches) == -(-count // size)
    assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    first = flat(batch_rows(LENGTHS, 32, 42, 0))
    np.random.seed(1)
    torch.manual_seed(1)
    assert flat(batch_rows(LENGTHS, 32, 42, 0)) == first
    orders = {tuple(flat(batch_rows(LENGTHS, 32, seed, epoch))) for seed in (42, 43) for epoch in (0, 1)}
    assert len(orders) == 4


def test_batches_do_not_come_in_the_order_of_length():
    widths = [LENGTHS[rows].mean() for rows in batch_rows(LENGTHS, 32, 42, 0)]
    assert widths != sorted(widths) and widths != sorted(widths, reverse=True)


@pytest.mark.parametrize(("count", "size"), [(1003, 32), (1003, 2), (7000, 16), (64, 32)])
def test_all_batches_but_one_per_length_have_a_single_length(count, size):
    """Whatever can fill a batch of its own length does; the rest is cut in the order of length."""
    lengths = np.resize(LENGTHS, count)
    batches = batch_rows(lengths, size, 42, 0)
    mixed = [lengths[rows] for rows in batches if len(set(lengths[rows])) > 1]
    assert len(mixed) <= len(set(lengths))
    single = Counter(int(lengths[rows[0]]) for rows in batches if len(rows) == size and len(set(lengths[rows])) == 1)
    assert all(single[length] >= (lengths == length).sum() // size for length in set(lengths))
    spans = sorted((part.min(), part.max()) for part in mixed)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


def test_padding_is_at_most_a_hundredth_on_lengths_like_those_of_sst2():
    lengths = np.random.default_rng(1).lognormal(np.log(11.2), 0.6, 20000).round().clip(3, 66).astype(int)
    assert 12 < lengths.mean() < 14.5
    padded = sum(lengths[rows].max() * len(rows) for rows in batch_rows(lengths, 32, 42, 0))
    assert 1 - lengths.sum() / padded <= 0.01


def test_rows_of_one_length_change_their_company_from_epoch_to_epoch():
    lengths = np.resize(LENGTHS, 7000)
    first, second = ({frozenset(rows.tolist()) for rows in batch_rows(lengths, 16, 42, epoch)} for epoch in (0, 1))
    assert len(first & second) <= 0.01 * len(first)


def same(one, other):
    """Whether two updates are equal."""
    return len(one) == len(other) and all(
        np.array_equal(a.rows, b.rows) and all(alike(a.student[key], b.student[key]) for key in a.student)
        for a, b in zip(one, other, strict=True)
    )


def alike(one, other):
    """Whether two tensors are equal, or both missing."""
    return one is other is None or (one is not None and other is not None and torch.equal(one, other))


@pytest.mark.parametrize("start", [0, 1, 4, 5, 11])
def test_starting_at_an_update_equals_skipping_those_before(split, start):
    options = {"batch_size": 5, "seed": 3}
    late = itertools.islice(updates(split, start=start, **options), 7)
    skipped = itertools.islice(updates(split, **options), start, start + 7)
    assert all(same(one, other) for one, other in zip(late, skipped, strict=True))


@pytest.mark.parametrize(("size", "accum"), [(8, 1), (8, 4), (10, 5), (10, 2), (24, 3), (32, 4)])
def test_an_update_is_cut_into_micro_batches_whose_weights_sum_to_one(split, size, accum):
    whole = itertools.islice(updates(split, batch_size=size, seed=3), 6)
    cut = itertools.islice(updates(split, batch_size=size, accum_step=accum, seed=3), 6)
    for one, parts in zip(whole, cut, strict=True):
        assert flat([part.rows for part in parts]) == one[0].rows.tolist()
        assert all(len(part.rows) <= size // accum for part in parts) and len(parts) <= accum
        assert sum(part.weight for part in parts) == pytest.approx(1, abs=1e-12)
        assert [part.weight for part in parts] == pytest.approx([len(part.rows) / len(one[0].rows) for part in parts])


def test_labels_and_masks_go_with_their_rows(split, data):
    rows = read_split(TASKS["sst2"], "train")
    for (batch,) in itertools.islice(updates(split, batch_size=7, seed=3), 4):
        assert batch.label.tolist() == [rows[row].label for row in batch.rows]
        assert batch.mask is batch.student["attention_mask"]
        length, width = split.lengths[batch.rows], batch.student["input_ids"].shape[1]
        real = [width] * len(length) if batch.mask is None else batch.mask.sum(1).tolist()
        assert real == length.tolist() and width == length.max()
        assert batch.teacher is batch.student


def test_there_is_a_mask_exactly_where_there_is_padding(split):
    for (batch,) in itertools.islice(updates(split, batch_size=2, seed=3), 24):
        assert (batch.mask is None) == (len(set(split.lengths[batch.rows])) == 1)
    assert {split.inputs(np.array([row]))["attention_mask"] for row in range(24)} == {None}
    assert split.inputs(np.array([0]), 24)["attention_mask"].sum() == split.lengths[0] < 24


def test_padding_to_a_length_lets_padding_count(split):
    (batch,) = next(updates(split, batch_size=4, seed=3, pad_to=24))
    assert batch.mask is None and batch.student["input_ids"].shape == (4, 24)


def test_a_split_without_labels_cannot_be_trained_on(data, tokenizer):
    with pytest.raises(ValueError, match="--dataset test: .* no labels to train on"):
        load_labelled(TASKS["sst2"], "test", tokenizer, 24)


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("length", [24, 9])
def test_inputs_are_those_of_the_tokenizer(data, tokenizer, encoder, task, length):
    """Singles and pairs, padded to the longest row or to a length, cut to max_seq_len."""
    if task != "sst2":
        data.write(task)
    entry = TASKS[task]
    split, texts = load_split(entry, "train", tokenizer, length), [row.text for row in read_split(entry, "train")]
    assert max(split.lengths) <= length and (length == 24 or max(split.lengths) == 9)
    own = AutoTokenizer.from_pretrained(encoder)
    for rows in ([0, 1, 2], [5], [7, 3]):
        for pad_to in (None, length):
            want = own(
                *(list(column) for column in zip(*(texts[row] for row in rows), strict=True)), truncation=True,
                max_length=length, padding="max_length" if pad_to else True, return_tensors="pt",
            )  # fmt: skip
            got = split.inputs(np.array(rows), pad_to)
            assert set(got) == set(want) == {"input_ids", "attention_mask", "token_type_ids"}
            if got["attention_mask"] is None:  # no padding
                assert want.pop("attention_mask").all() and got.pop("attention_mask") is None
            assert all(torch.equal(got[key], want[key].to(got[key].dtype)) for key in got)


def test_a_pair_of_texts_has_two_segments(data, tokenizer):
    data.write("qnli")
    inputs = load_split(TASKS["qnli"], "train", tokenizer, 24).inputs(np.arange(8))
    assert inputs["token_type_ids"].unique().tolist() == [0, 1]


def entries():
    """Folders of the cache."""
    return sorted(path.name for path in cache_dir().iterdir() if not path.name.startswith("."))


def equal(one, other):
    """Whether two splits hold the same rows."""
    names = ("row_id", "label", "input_ids", "token_type_ids", "offsets")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_split_is_tokenised_once(split, tokenizer, monkeypatch):
    monkeypatch.setattr(module, "tokenize", lambda *_: pytest.fail("tokenised again"))
    again = load_split(TASKS["sst2"], "train", tokenizer, 24)
    assert equal(again, split)
    assert (again.key, again.max_seq_len) == (split.key, split.max_seq_len) == (entries()[0], 24)


def test_other_content_length_tokenizer_or_split_is_another_entry(split, data, tokenizer, encoder):
    assert len(entries()) == 1
    load_split(TASKS["sst2"], "train", tokenizer, 9)
    assert len(entries()) == 2
    load_split(TASKS["sst2"], "dev", tokenizer, 24)
    assert len(entries()) == 3
    other = load_tokenizer(encoder)
    other.add_tokens(["brandnew"])
    load_split(TASKS["sst2"], "train", other, 24)
    assert len(entries()) == 4
    file = data.file("SST-2/train.tsv")
    stamp = file.stat()
    file.write_bytes(file.read_bytes().replace(b"\t1\n", b"\t0\n"))  # the same size, and the same time:
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert not load_split(TASKS["sst2"], "train", tokenizer, 24).label.any()
    assert len(entries()) == 5


def test_how_a_tokenizer_was_last_used_does_not_matter(split, tokenizer, encoder):
    used = load_tokenizer(encoder)
    used(["good film", "bad"], padding="max_length", truncation=True, max_length=5)
    load_split(TASKS["sst2"], "train", used, 24)
    assert len(entries()) == 1


def test_what_a_killed_process_left_does_no_harm(split, tokenizer):
    (folder,) = (path for path in cache_dir().iterdir())
    stale = folder.with_name(f".{folder.name}-abc")
    folder.rename(stale)
    for file in list(stale.iterdir())[2:]:
        file.unlink()
    assert equal(load_split(TASKS["sst2"], "train", tokenizer, 24), split)
    assert len(entries()) == 1


def test_a_process_that_comes_second_waits_and_uses_what_the_first_made(data, tokenizer, monkeypatch, caplog):
    fork = multiprocessing.get_context("fork")
    filling, go_on = fork.Event(), fork.Event()
    tokenize = module.tokenize

    def slowly(*given):
        filling.set()
        assert go_on.wait(30)
        return tokenize(*given)

    monkeypatch.setattr(module, "tokenize", slowly)
    first = fork.Process(target=load_split, args=(TASKS["sst2"], "train", tokenizer, 24))
    first.start()
    assert filling.wait(30)
    monkeypatch.setattr(module, "tokenize", None)  # the second must not
    monkeypatch.setattr(logging.getLogger("fine_tune.files"), "info", lambda *_: go_on.set())  # once it waits
    assert len(load_split(TASKS["sst2"], "train", tokenizer, 24)) == 24
    first.join()
    assert first.exitcode == 0 and len(list(cache_dir().iterdir())) == 1


def test_a_missing_tokenizer_names_the_flag(tmp_path):
    with pytest.raises(ValueError, match=r"no tokenizer .*absent.*--ptrain_ver") as error:
        load_tokenizer(str(tmp_path / "absent"))
    assert "\n" not in str(error.value)
