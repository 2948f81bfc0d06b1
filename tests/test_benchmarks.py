"""Tests that the benchmarks run and end with the line they promise; what they measure is no test's business."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.released import ReleasedGate
from fine_tune.model.gate import GateShape, HighwayGate

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(data, encoder, monkeypatch, capsys):
    """Run a benchmark on the tiny encoder and give the figures of its last line."""

    def run(script: str, *flags: object) -> dict:
        argv = [script, "--encoder", encoder, "--batch_size", 4, "--max_seq_len", 32, *flags]
        monkeypatch.setattr(sys, "argv", [str(word) for word in argv])
        runpy.run_path(str(FOLDER / script), run_name="__main__")
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lad", "teacher"])
def test_step_times_of_both_contenders(method, bench):
    flags = ("--rounds", 1, "--our_steps", 2, "--device_id", -1, "--no_memory")
    figures = bench("bench_step.py", "--method", method, *flags)
    assert figures["ratio"] == pytest.approx(figures["released_ms"] / figures["ours_ms"], rel=0.1)
    assert figures["gflop_per_step"] >= 0 and figures["gemm_fraction"] >= 0 and figures["tokens_per_s"] > 0


@pytest.mark.slow
def test_peak_memory_of_both_contenders(bench):
    figures = bench("bench_step.py", "--rounds", 1, "--our_steps", 2, "--memory_steps", 40, "--device_id", -1)
    assert figures["ours_peak_mb"] > 0 and figures["released_peak_mb"] > 0


def test_data_path(bench):
    figures = bench("bench_data.py", "--steps", 2)
    assert figures["rows"] == 24 and 0 <= figures["pad_share"] < figures["released_pad_share"] < 1
    assert 0 < figures["wait_share"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["none", "states"])
def test_what_a_step_consists_of_adds_up(cache, bench):
    figures = bench("bench_profile.py", "--steps", 3, "--warm_up", 3, "--teacher_cache", cache)
    parts = {name: ms for name, ms in figures.items() if name not in ("precision", "teacher_cache", "step_ms")}
    assert sum(parts.values()) == pytest.approx(figures["step_ms"], abs=0.06 * len(parts))
    assert parts["matrix products"] > 0 and parts["attention"] > 0 and parts["layer norm"] > 0


@pytest.mark.slow
def test_the_updates_of_training_are_counted_and_not_those_that_fill_a_cache(data, run, teacher):
    from benchmarks.common import counting
    from fine_tune.data.tokens import load_split, load_tokenizer
    from fine_tune.tasks.table import TASKS

    for cache in ("none", "states"):
        flags = ("--task", "sst2", "--batch_size", 4, "--total_step", 6, "--device_id", -1, "--teacher_cache", cache)
        with counting(tokens := []):
            run("run_lad_distil", "--experiment", cache, "--teacher_exp", "teacher", *flags)
        rows = load_split(TASKS["sst2"], "train", load_tokenizer(str(teacher / "tokenizer")), 24)
        assert sum(tokens[:6]) == int(rows.lengths.sum())  # an epoch


@pytest.mark.slow
def test_peers_do_the_job(bench):
    pytest.importorskip("textbrewer")
    figures = bench("bench_peers.py", "--rounds", 1, "--warm_up", 1, "--steps", 2)
    for peer in ("lad", "trainer", "textbrewer"):
        assert figures[f"{peer}_ratio"] == pytest.approx(figures[f"{peer}_ms"] / figures["ours_ms"], rel=0.02)


@pytest.mark.slow
def test_growth_measures_a_point(data, encoder):
    point = {"rows": 60, "length": 16, "batch_size": 4, "layers": 2}
    flags = ("--encoder", encoder, "--steps", "2", "--point", json.dumps(point))
    done = subprocess.run([sys.executable, FOLDER / "bench_scaling.py", *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {"set_up_s", "step_ms", "peak_mb"} and min(figures.values()) > 0


def test_the_rivals_gate_is_the_released_one_and_ours_still_equals_it() -> None:
    """The rival has its own arithmetic; where ours departs from it one day, the timings compare two methods."""
    torch.manual_seed(0)
    ours, rival = HighwayGate(GateShape(6, 5)), ReleasedGate(6, 5)
    nn.init.normal_(ours.layernorm.weight)
    rival.load_state_dict(ours.state_dict())
    previous, current = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(rival(previous, current), ours(previous, current))
