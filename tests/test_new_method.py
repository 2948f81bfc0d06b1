"""A new method is one loop, one script, one row: a toy goes through all that the project does with a method."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from forks import finish, start

from fine_tune.train.methods import METHODS

HERE = Path(__file__).parent
QUICK = ("--task", "sst2", "--device_id", -1, "--batch_size", 8, "--log_step", 1, "--dropout", 0)
TOY = ("--teacher_exp", "teacher", "--total_step", 6, "--ckpt_step", 3, *QUICK)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """The toy's row, for one test."""
    before = dict(METHODS)
    yield importlib.import_module("toy_method")
    METHODS.clear()
    METHODS.update(before)
    sys.modules.pop("toy_method", None)


def test_it_is_short():
    lines = (HERE / "toy_method.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) < 40


@pytest.mark.slow
def test_it_trains_resumes_and_is_scored(data, teacher, run, monkeypatch):
    run("toy_method", "--experiment", "whole", *TOY)
    assert data.config("whole")["method"] == "toy"
    assert data.metrics("whole")[-1]["hidden_loss"] < data.metrics("whole")[0]["hidden_loss"]
    from fine_tune.run.session import Session

    plain = Session.advance

    def stop(self):
        plain(self)
        self.stopped_by = self.stopped_by or (15 if self.now == 4 else None)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(Session, "advance", stop)
        run("toy_method", "--experiment", "cut", *TOY)
    assert end.value.code == 143
    run("toy_method", "--experiment", "cut", *TOY, "--resume")
    assert data.metrics("cut") == data.metrics("whole")
    one, other = data.state("whole", 6), data.state("cut", 6)
    assert all(torch.equal(weights, other[name]) for name, weights in one.items())
    run("run_fine_tune_eval", "--experiment", "cut", "--task", "sst2", "--device_id", -1)
    scores = json.loads((data.run("cut") / "eval_dev.json").read_text(encoding="utf-8"))
    assert set(scores["checkpoints"]) == {"3", "6"}
    run("plot_run", data.run("cut"))
    assert (data.run("cut") / "losses.png").is_file()


@pytest.mark.slow
def test_two_processes_do_what_one_does(data, teacher, run, tmp_path):
    run("toy_method", "--experiment", "one", *TOY, "--no_lazy_embedding")
    processes = start(data.root, tmp_path / "log", "toy_method", "--experiment", "two", *TOY, ranks=2)
    assert finish(processes) == [0, 0], (tmp_path / "log").read_text()
    for one, two in zip(data.metrics("one"), data.metrics("two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.slow
def test_a_suite_runs_it_beside_another(data, teacher, run, monkeypatch):
    from fine_tune.compare import train

    (data.root / "scripts").mkdir()
    for script in (HERE / "toy_method.py", HERE.parent / "run_kd_distil.py"):
        (data.root / "scripts" / script.name).symlink_to(script)
    monkeypatch.setattr(train, "PROJECT", data.root / "scripts")
    monkeypatch.setenv("PYTHONPATH", f"{HERE.parent}{os.pathsep}{HERE}")
    suite = ("--suite", "s", "--teacher_exp", "teacher", "--methods", "toy,kd", "--seeds", "1", "--total_step", 2)
    run("run_suite", *suite, "--task", "sst2", "--device_id", -1, "--set", "batch_size=8")
    report = (data.root / "suites" / "s" / "report.md").read_text(encoding="utf-8")
    assert "| toy |" in report and "| kd |" in report and "toy - kd" in report
