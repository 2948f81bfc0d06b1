"""Tests of the teacher cache: a run that reads it ends, to the last bit, where a run of the live teacher ends.

And: a folder is there whole or not at all, belongs to one teacher and one way of asking, and is as large as foretold.
"""

import json
import os
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

from fine_tune.data.batches import updates
from fine_tune.data.tokens import load_split
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import OutputsConfig, RunConfig, SpeedConfig, TeacherRef
from fine_tune.hardware.device import Devices
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import load_teacher
from fine_tune.path import cache_dir
from fine_tune.tasks.table import TASKS
from fine_tune.teacher.cache import GB, CachedTeacher, live_or_cached
from fine_tune.teacher.live import LiveTeacher
from fine_tune.teacher.protocol import Needs, announced

CPU = torch.device("cpu")
# 24 rows in batches of 5: two epochs, each with a short batch.
BASE = (
    "--teacher_exp", "teacher", "--task", "sst2", "--device_id", -1, "--batch_size", 5, "--total_step", 10,
    "--log_step", 1, "--lr", 0.01, "--gate_lr", 0.01,
)  # fmt: skip
STATES = ("--teacher_cache", "states")


def folders() -> list[str]:
    """Everything that teacher caches left, finished or not."""
    return sorted(path.name for path in cache_dir().glob("*teacher-*")) if cache_dir().is_dir() else []


def assert_same_run(data, one: str, other: str) -> None:
    """The same losses and weights, to the last bit."""
    assert data.metrics(one) == data.metrics(other)
    names = {path.name for path in data.run(one).glob("*-10.pt")}
    assert "model-10.pt" in names and names == {path.name for path in data.run(other).glob("*-10.pt")}
    for name in names:
        a, b = (torch.load(data.run(run) / name, weights_only=True) for run in (one, other))
        assert list(a) == list(b) and all(torch.equal(value, b[key]) for key, value in a.items()), name


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """Rows of every batch that a teacher has computed so far."""
    rows, states = [], Classifier.states

    def count(self, input_ids, attention_mask, token_type_ids):
        if not self.training:
            rows.append(len(input_ids))
        return states(self, input_ids, attention_mask, token_type_ids)

    monkeypatch.setattr(Classifier, "states", count)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [(), *(pytest.param(flags, marks=pytest.mark.slow)
           for flags in (("--reverse_gate", "--accum_step", 5), ("--num_hidden_layers", 1)))],
    ids=str,
)  # fmt: skip
def test_a_run_from_the_cache_equals_the_run_of_the_live_teacher(flags, data, run, teacher):
    run("run_lad_distil", "--experiment", "live", *BASE, *flags)
    assert folders() == []
    run("run_lad_distil", "--experiment", "cached", *BASE, *flags, *STATES)
    assert len(folders()) == 1
    assert_same_run(data, "live", "cached")


@pytest.mark.slow
def test_in_bfloat16_too_the_cache_holds_the_teachers_own_outputs(data, run, teacher, monkeypatch):
    monkeypatch.setattr("fine_tune.hardware.precision.has_bfloat16", lambda device: True)
    run("run_lad_distil", "--experiment", "live", *BASE, "--precision", "bf16")
    run("run_lad_distil", "--experiment", "cached", *BASE, "--precision", "bf16", *STATES)
    assert_same_run(data, "live", "cached")
    (folder,) = folders()
    assert np.load(cache_dir() / folder / "states.npy").dtype == np.int16
    run("run_lad_distil", "--experiment", "full", *BASE, *STATES)
    assert len(folders()) == 2


@pytest.mark.slow
def test_a_second_run_reads_the_folder_and_never_asks_the_teacher(data, run, teacher, asked):
    base = (*BASE, "--no_preflight")  # which asks the teacher, too
    run("run_lad_distil", "--experiment", "first", *base, *STATES)
    assert sum(asked) == 24 + 4 * 5 - 1  # every row once, and four updates, one of them short, to compare with
    before = {path: path.stat().st_mtime_ns for path in (cache_dir() / folders()[0]).iterdir()}
    asked.clear()
    run("run_lad_distil", "--experiment", "second", *base, *STATES, "--seed", 7)
    assert asked == []
    assert {path: path.stat().st_mtime_ns for path in (cache_dir() / folders()[0]).iterdir()} == before
    run("run_lad_distil", "--experiment", "live", *BASE, "--seed", 7)
    assert_same_run(data, "second", "live")


@pytest.mark.parametrize("level", ["logits", "cls"])
def test_a_level_that_is_not_enough_is_refused(level, data, refused, teacher):
    message = refused("run_lad_distil", "--experiment", "x", *BASE, "--teacher_cache", level)
    assert message == f"--teacher_cache {level}: this method needs states of its teacher"
    assert folders() == [] and not data.run("x").exists()


def test_padding_that_counts_cannot_be_cached(data, refused, teacher):
    message = refused("run_lad_distil", "--experiment", "x", *BASE, *STATES, "--pad_to_max")
    assert "--teacher_cache states" in message and "--pad_to_max" in message
    assert folders() == [] and not data.run("x").exists()


def test_a_cache_over_the_budget_is_refused_and_leaves_nothing(data, refused, teacher):
    message = refused("run_lad_distil", "--experiment", "x", *BASE, *STATES, "--cache_budget", 1e-6)
    assert "--cache_budget allows 1e-06 GB" in message and "states of 4 layers in float32" in message
    assert folders() == [] and not data.run("x").exists()


def test_a_cache_that_the_disk_cannot_hold_is_refused(data, refused, teacher, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    assert "the disk has 0.00 GB left" in refused("run_lad_distil", "--experiment", "x", *BASE, *STATES)
    assert folders() == [] and not data.run("x").exists()


class Direct:
    """A teacher and its rows, asked without a script."""

    def __init__(self) -> None:
        self.loaded = load_teacher(TeacherRef(teacher_exp="teacher"), TASKS["sst2"], None)
        self.rows = load_split(TASKS["sst2"], "train", self.loaded.tokenizer, 24)
        self.cfg = RunConfig(experiment="x", task="sst2", batch_size=5)

    def open(self, level: str, needs: Needs, budget: float = 1.0):
        cache = OutputsConfig(teacher_cache=level, cache_budget=budget)
        flags = Flags({RunConfig: self.cfg, OutputsConfig: cache, SpeedConfig: SpeedConfig()})
        return live_or_cached(self.loaded, Devices(CPU, {"": CPU}), self.rows, needs, flags)

    def batches(self):
        """Two epochs."""
        stream = updates(self.rows, batch_size=5, seed=3)
        return [batch for _ in range(10) for batch in next(stream)]


@pytest.fixture
def direct(teacher) -> Direct:
    """The tuned teacher, asked directly."""
    return Direct()


NEEDS = [("logits", Needs("logits")), ("cls", Needs("cls", (1, 3))), ("states", Needs("states", (0, 3)))]


@pytest.mark.parametrize(("level", "needs"), [*NEEDS, ("states", Needs("logits")), ("cls", Needs("logits"))])
def test_what_is_read_is_what_the_live_teacher_says(level, needs, direct):
    live, cached = direct.open("none", needs), direct.open(level, needs)
    assert isinstance(live, LiveTeacher) and isinstance(cached, CachedTeacher)
    for batch in direct.batches():
        want, got = live(batch), cached(batch)
        assert torch.equal(got.logits, want.logits) and got.logits.dtype == torch.float32
        assert tuple(got.states) == tuple(want.states) == needs.layers
        for layer, states in got.states.items():
            width = 1 if level == "cls" else batch.teacher["input_ids"].shape[1]
            assert states.shape == (len(batch.rows), width, 16) and states.dtype == torch.float32
            real = torch.ones(states.shape[:2]) if batch.mask is None or level == "cls" else batch.mask
            assert torch.equal(states[real > 0], want.states[layer][:, :width][real > 0])
            assert not states[real == 0].any()


@pytest.mark.slow
@pytest.mark.parametrize(("level", "needs"), NEEDS)
def test_an_update_that_was_announced_is_the_part_of_the_file_that_is_read(level, needs, direct, monkeypatch):
    cached, asked, read = direct.open(level, needs), [], []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, at, size, what: asked.append((at, size)))
    pread = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, into, at: read.append((at, into[0].nbytes)) or pread(file, into, at))
    for batch in direct.batches():
        cached.expect([batch])
        cached(batch)
    assert asked == read and len(read) == (0 if level == "logits" else 48)


def test_every_update_is_announced_before_the_one_ahead_of_it_is_worked_on():
    seen: list[str] = []

    class Listener:
        def expect(self, update):
            seen.append(f"expect {update}")

    for update in announced(iter(range(4)), Listener()):
        seen.append(f"work on {update}")
    assert seen == ["expect 1", "work on 0", "expect 2", "work on 1", "expect 3", "work on 2"]


def test_a_file_that_ends_early_is_an_error(direct):
    cached = direct.open("states", Needs("states", (0, 3)))
    (name,) = folders()
    os.truncate(cache_dir() / name / "states.npy", 500)
    with pytest.raises(OSError, match="ends early"):
        cached(next(iter(direct.batches())))


def test_the_largest_difference_to_the_live_teacher_is_noted(direct):
    direct.open("states", Needs("states", (0, 3)))
    (folder,) = folders()
    assert json.loads((cache_dir() / folder / "check.json").read_text()) == {"largest_difference": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize(("level", "needs"), NEEDS)
def test_the_size_foretold_is_that_of_the_arrays_on_disk(level, needs, direct):
    direct.open(level, needs)
    (name,) = folders()
    arrays = {file.name: np.load(file) for file in (cache_dir() / name).glob("*.npy")}
    assert set(arrays) == {"logits.npy"} | ({"states.npy"} if needs.layers else set())
    size = sum(array.nbytes for array in arrays.values())
    tokens = {"logits": 0, "cls": 24, "states": int(direct.rows.offsets[-1])}[level]
    assert size == 4 * (24 * 2 + tokens * len(needs.layers) * 16)
    shutil.rmtree(cache_dir() / name)
    with pytest.raises(ValueError, match=f"--teacher_cache {level} would take"):
        direct.open(level, needs, budget=(size - 0.5) / GB)
    assert folders() == []
    direct.open(level, needs, budget=(size + 0.5) / GB)
    assert folders() == [name]


@pytest.mark.slow
def test_another_teacher_level_or_set_of_layers_has_another_folder(direct, teacher):
    direct.open("states", Needs("states", (0, 3)))
    direct.open("states", Needs("states", (0, 2)))
    direct.open("cls", Needs("cls", (0, 3)))
    direct.open("logits", Needs("logits"))
    assert len(folders()) == 4
    state = torch.load(teacher / "model-4.pt", weights_only=True)
    state["linear_layer.bias"] += 1
    torch.save(state, teacher / "model-4.pt")
    changed = Direct()
    cached = changed.open("states", Needs("states", (0, 3)))
    assert len(folders()) == 5
    (batch, *_) = changed.batches()
    assert torch.equal(cached(batch).logits, changed.open("none", Needs("logits"))(batch).logits)


@pytest.mark.slow
def test_another_checkpoint_or_other_rows_have_another_folder(data, run, teacher):
    run("run_lad_distil", "--experiment", "last", *BASE, *STATES)
    run("run_lad_distil", "--experiment", "early", *BASE, *STATES, "--tckpt", 2)
    run("run_lad_distil", "--experiment", "dev", *BASE, *STATES, "--dataset", "dev", "--no_preflight")
    assert len(folders()) == 3
    run("run_lad_distil", "--experiment", "live", *BASE, "--tckpt", 2)
    assert_same_run(data, "early", "live")


@pytest.mark.slow
@pytest.mark.parametrize("at", [pytest.param(0, marks=pytest.mark.slow), 3, pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seconds", [0, pytest.param(10, marks=pytest.mark.slow)])
def test_what_was_interrupted_does_not_look_complete_and_goes_on(seconds, at, data, run, teacher, asked, monkeypatch):
    """Whether it was noted after every batch how far the filling has come, or never."""
    calls, plain = [], LiveTeacher.run

    def interrupted(self, inputs):
        calls.append(len(inputs["input_ids"]))
        if len(calls) > at:
            raise KeyboardInterrupt
        return plain(self, inputs)

    monkeypatch.setattr("fine_tune.teacher.store.SECONDS", seconds)
    monkeypatch.setattr(LiveTeacher, "run", interrupted)
    with pytest.raises(SystemExit, match="130"):
        run("run_lad_distil", "--experiment", "x", *BASE, *STATES, "--no_preflight")
    assert all(name.startswith(".") for name in folders()) and not data.run("x").exists()
    monkeypatch.setattr(LiveTeacher, "run", plain)
    asked.clear()
    run("run_lad_distil", "--experiment", "cached", *BASE, *STATES, "--no_preflight")
    kept = sum(calls[:-1]) if seconds == 0 or at == 9 else 0  # all rows are done after seven batches, which is noted
    assert sum(asked) == 24 - kept + 4 * 5 - 1 and len(folders()) == 1
    run("run_lad_distil", "--experiment", "live", *BASE)
    assert_same_run(data, "cached", "live")


def test_what_a_killed_process_left_does_no_harm(direct):
    direct.open("states", Needs("states", (0, 3)))
    (name,) = folders()
    stale = (cache_dir() / name).rename(cache_dir() / f".{name}")
    (stale / "logits.npy").unlink()
    direct.open("states", Needs("states", (0, 3)))
    assert folders() == [name] and not stale.exists()


def test_a_full_disk_is_told_before_it_would_kill_the_process(direct, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left"):
        direct.open("states", Needs("states", (0, 3)))
    assert not list(cache_dir().glob("*teacher-*"))
