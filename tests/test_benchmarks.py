"""Tests that the benchmarks run and end with the line they promise; what they measure is no test's business."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from fine_tune import build, log

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(data, encoder, monkeypatch, capsys):
    """Run a benchmark on the tiny encoder and give the figures of its last line."""

    def run(script: str, *flags: object) -> dict:
        argv = [script, "--encoder", encoder, "--batch_size", 4, "--max_seq_len", 32, *flags]
        monkeypatch.setattr(sys, "argv", [str(word) for word in argv])
        for module, name in ((build, "updates_of"), (log, "TrainLog")):  # bench_step.py puts its own in their place
            monkeypatch.setattr(module, name, getattr(module, name))
        runpy.run_path(str(FOLDER / script), run_name="__main__")
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.mark.parametrize("method", ["lad", "teacher"])
def test_step_times_of_both_contenders(method, bench):
    flags = ("--rounds", 1, "--our_steps", 2, "--device_id", -1, "--no_memory")
    figures = bench("bench_step.py", "--method", method, *flags)
    assert figures["ratio"] == pytest.approx(figures["released_ms"] / figures["ours_ms"], rel=0.1)
    assert figures["gflop_per_step"] >= 0 and figures["gemm_fraction"] >= 0 and figures["tokens_per_s"] > 0


@pytest.mark.slow
def test_peak_memory_of_both_contenders(bench):
    figures = bench("bench_step.py", "--rounds", 1, "--our_steps", 2, "--device_id", -1)
    assert figures["ours_peak_mb"] > 0 and figures["released_peak_mb"] > 0


def test_data_path(bench):
    figures = bench("bench_data.py", "--steps", 2)
    assert figures["rows"] == 24 and 0 <= figures["pad_share"] < figures["released_pad_share"] < 1
    assert 0 < figures["wait_share"] < 1
