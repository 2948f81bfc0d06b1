"""Tests of what a run shows: pictures, and runs in one table."""

import json
import re

import pytest

from fine_tune.plot import plot_gates, read_metrics

QUICK = ("--task", "sst2", "--device_id", -1, "--batch_size", 4, "--total_step", 4, "--log_step", 2)


@pytest.fixture
def runs(data, run, teacher):
    """A LAD run `lad` and a run without a teacher `alone`."""
    run("run_lad_distil", "--experiment", "lad", "--teacher_exp", "teacher", *QUICK)
    run("run_student_fine_tune", "--experiment", "alone", "--teacher_exp", "teacher", *QUICK)
    return data.run("lad"), data.run("alone")


def test_pictures_of_a_run_with_gates(run, runs, capsys):
    capsys.readouterr()
    run("plot_run", *runs)
    written = [runs[0] / "losses.png", runs[0] / "gates.png"]
    assert capsys.readouterr().out.split() == [str(file) for file in written]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in written)


def test_a_run_without_gates_has_no_picture_of_them(run, runs):
    run("plot_run", runs[1])
    assert (runs[1] / "losses.png").is_file() and not (runs[1] / "gates.png").exists()


def test_every_gate_of_the_log_is_drawn(runs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("fine_tune.plot._line", lambda axis, x, y, label, *_: drawn.append((label, list(y))))
    metrics = read_metrics(runs[0])
    plot_gates(metrics, "lad", tmp_path / "gates.png")
    assert drawn == [(layer, metrics[f"gate_{layer}"]) for layer in ("2", "3", "4")]


def test_a_folder_without_a_log_is_refused(refused, tmp_path):
    assert "metrics.jsonl" in refused("plot_run", tmp_path)


def test_runs_in_one_table(data, run, runs, capsys):
    run("run_fine_tune_eval", "--experiment", "lad", "--task", "sst2", "--device_id", -1)
    accuracy = json.loads((runs[0] / "eval_dev.json").read_text())["checkpoints"]["4"]["accuracy"]
    capsys.readouterr()
    names = ("teacher", "lad", "alone")
    run("compare_runs", "--task", "sst2", "--device_id", -1, "--sentences", 4, "--experiment", *names)
    lines = capsys.readouterr().out.strip().splitlines()[2:]
    table = [re.split(r"  +", line) for line in lines if not line.startswith("-")]
    assert table[0] == ["run", "accuracy", "parameters", "size", "ms/sentence", "speed-up"]
    assert [row[0] for row in table[1:]] == list(names)
    assert table[2][1] == f"{accuracy:.4f}"
    assert table[1][5] == "1.00x" and all(float(row[4]) > 0 for row in table[1:])
    assert table[2][2] == table[3][2]


def test_a_missing_run_is_not_compared(refused, teacher):
    message = refused("compare_runs", "--task", "sst2", "--device_id", -1, "--experiment", "teacher", "absent")
    assert "absent_bert_sst2" in message
