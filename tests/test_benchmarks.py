"""Tests that the benchmarks run and end with the line they promise; what they measure is no test's business."""

import json
import runpy
import sys
from pathlib import Path

import pytest

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


def test_step_times_of_both_contenders(bench):
    figures = bench("bench_step.py", "--method", "lad", "--rounds", 1, "--our_steps", 2, "--device_id", -1)
    assert figures["layers"] == [4, 2]
    assert figures["ratio"] == pytest.approx(figures["released_ms"] / figures["ours_ms"], rel=0.1)


def test_data_path(bench):
    figures = bench("bench_data.py", "--steps", 2)
    assert figures["rows"] == 24 and 0 <= figures["pad_share"] < figures["released_pad_share"] < 1
    assert 0 < figures["wait_share"] < 1
