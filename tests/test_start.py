"""Tests of how a run starts: the roles of its parts are apart, and nothing changes once it is read.

Two throw-away scripts beside this file show that a new experiment needs little more than its own idea.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import RunConfig, StepConfig

QUICK = ("--task", "sst2", "--device_id", -1, "--batch_size", 8, "--total_step", 4, "--ckpt_step", 4, "--log_step", 1)
SCRIPTS = ("scripts_logits_in_a_file", "scripts_another_runs_student")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_throw_away_script_is_short(script):
    assert len((Path(__file__).parent / f"{script}.py").read_text(encoding="utf-8").splitlines()) <= 60


def test_a_student_learns_from_logits_in_a_file(data, run, encoder, tmp_path):
    """No teacher is there: no run of one, no model of one."""
    np.save(tmp_path / "logits.npy", torch.randn(24, 2).numpy())
    flags = ("--logits", tmp_path / "logits.npy", "--tokenizer", encoder, *QUICK)
    run(SCRIPTS[0], "--experiment", "s", *flags)
    losses = [entry["soft_loss"] for entry in data.metrics("s")]
    assert len(losses) == 4 and all(loss > 0 for loss in losses)
    np.save(tmp_path / "logits.npy", torch.randn(24, 2).numpy())
    run(SCRIPTS[0], "--experiment", "other", *flags)
    assert data.metrics("other")[0]["soft_loss"] != losses[0]
    assert data.metrics("other")[0]["hard_loss"] == data.metrics("s")[0]["hard_loss"]
    run("run_fine_tune_eval", "--experiment", "s", "--task", "sst2", "--device_id", -1)
    assert (data.run("s") / "eval_dev.json").is_file()


@pytest.mark.slow
def test_a_run_continues_from_another_runs_student(data, teacher, run, refused):
    run("run_kd_distil", "--experiment", "s", "--teacher_exp", "teacher", *QUICK)
    before = {path.name: path.read_bytes() for path in data.run("s").glob("*.*")}
    run(SCRIPTS[1], "--experiment", "more", "--source", "s", "--lr", 1e-9, *QUICK)
    assert {path.name: path.read_bytes() for path in data.run("s").glob("*.*")} == before
    one, other = data.state("s", 4), data.state("more", 4)
    assert all(torch.allclose(other[name], weights, atol=1e-6) for name, weights in one.items())
    assert "source_sha256" in data.config("more", name="run.json")
    assert "no run at" in refused(SCRIPTS[1], "--experiment", "x", "--source", "absent", *QUICK)


def test_groups_and_flags_are_frozen():
    cfg = RunConfig(experiment="x", task="SST-2")
    flags = Flags({RunConfig: cfg, StepConfig: StepConfig()})
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.seed = 1
    changed = flags.replaced(StepConfig(total_step=7))
    assert cfg.task == "sst2" and flags[StepConfig].total_step is None and changed[StepConfig].total_step == 7
    assert changed[RunConfig] is cfg


@pytest.mark.slow
@pytest.mark.parametrize("dry", [(), ("--dry_run",)])
def test_no_flag_changes_after_resolve(data, teacher, run, monkeypatch, dry):
    """What `resolve` gave is what it was when the run ends, though much was left open."""
    from fine_tune.run import start

    seen = []
    plain = start.resolve

    def resolve(flags):
        settings = plain(flags)
        seen.append((settings.flags, settings.flags.values(), {k: own.values() for k, own in flags.parts.items()}))
        return settings

    monkeypatch.setattr(start, "resolve", resolve)
    run("run_lad_distil", "--experiment", "s", "--teacher_exp", "teacher", *QUICK, *dry)
    flags, values, parts = seen[0]
    assert flags.values() == values and values["tckpt"] is None and values["num_hidden_layers"] is None
    assert {prefix: own.values() for prefix, own in flags.parts.items()} == parts
