"""Tests of `--from_config`: a run repeated from its config.json is the same, to the last bit."""

import importlib
import json
import subprocess
import sys

import pytest
import torch

from fine_tune.path import PROJECT

CPU = ("--device_id", -1)
QUICK = (*CPU, "--task", "sst2", "--batch_size", 8, "--log_step", 1, "--total_step", 3, "--warmup_step", 1)
LAD = ("--gate_lr", 0.01, "--gate_init_bias", 2, "--layer_map", "1:1,4:2", "--reverse_gate", "--gate_total_step", 7)
RUNS = {
    "run_student_fine_tune": ("--no_init_embeddings", "--lr", 0.01),
    "run_lad_distil": LAD,
    "run_pkd_distill": ("--pkd_exp", "pkd-skip"),
    "run_alp_distil": ("--alp_exp", "alp-kd-hidden-v2", "--detach_target"),
    "run_probing_lad": ("--probing_exp", "partial_lad", "--teacher_indices", 2),
}


def repeat(script, data, run, *flags):
    """Repeat the run `a` as `b`."""
    run(script, "--experiment", "b", "--from_config", data.run("a") / "config.json", *flags)


@pytest.mark.slow
@pytest.mark.parametrize("script", RUNS)
def test_a_repeated_run_is_the_same_to_the_last_bit(script, data, run, teacher):
    run(script, "--experiment", "a", "--teacher_exp", "teacher", *QUICK, *RUNS[script], "--seed", 3)
    repeat(script, data, run)
    one, other = data.state("a", 3), data.state("b", 3)
    assert list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)
    assert data.metrics("a") == data.metrics("b")
    assert data.config("a") | {"experiment": "b"} == data.config("b")


@pytest.mark.slow
def test_a_teacher_can_be_repeated(data, run, encoder):
    run("run_fine_tune", "--experiment", "a", "--ptrain_ver", encoder, "--max_seq_len", 24, *QUICK, "--epoch", 1)
    repeat("run_fine_tune", data, run)
    one, other = data.state("a", 3), data.state("b", 3)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_epochs_are_repeated_as_epochs(data, run, teacher):
    base = (*CPU, "--task", "sst2", "--batch_size", 8, "--epoch", 1)
    run("run_kd_distil", "--experiment", "a", "--teacher_exp", "teacher", *base)
    repeat("run_kd_distil", data, run)
    assert data.config("a") | {"experiment": "b"} == data.config("b")
    assert (data.config("b")["epoch"], data.config("b")["total_step"]) == (1, 3)


@pytest.mark.slow
def test_flags_on_the_command_line_win(data, run, teacher):
    run("run_kd_distil", "--experiment", "a", "--teacher_exp", "teacher", *QUICK, "--lr", 0.5)
    repeat("run_kd_distil", data, run, "--lr", 0.25, "--seed", 9)
    assert (data.config("b")["lr"], data.config("b")["seed"]) == (0.25, 9)


def test_a_repetition_needs_a_name_of_its_own(data, run, refused, teacher):
    run("run_kd_distil", "--experiment", "a", "--teacher_exp", "teacher", *QUICK)
    assert "--experiment" in refused("run_kd_distil", "--from_config", data.run("a") / "config.json")


def test_flags_of_another_method_are_refused(data, run, refused, teacher):
    run("run_lad_distil", "--experiment", "a", "--teacher_exp", "teacher", *QUICK)
    message = refused("run_kd_distil", "--experiment", "b", "--from_config", data.run("a") / "config.json")
    assert "hidden_mse_weight" in message and not data.run("b").exists()


@pytest.mark.slow
def test_the_config_of_another_script_is_refused(data, run, teacher):
    run("run_lad_no_distil", "--experiment", "a", "--teacher_exp", "teacher", *QUICK)
    about = data.run("a") / "run.json"
    made = json.loads(about.read_text(encoding="utf-8"))
    made["argv"][0] = "run_lad_no_distil.py"
    about.write_text(json.dumps(made), encoding="utf-8")
    command = [sys.executable, str(PROJECT / "run_lad_distil.py"), "--experiment", "b"]
    command += ["--from_config", str(data.run("a") / "config.json")]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 2 and "a run of run_lad_no_distil.py" in told.stderr


@pytest.mark.parametrize(("content", "words"), [("no", "not a JSON file"), ("[1]", "one JSON object")])
def test_a_damaged_config_is_refused(content, words, tmp_path, refused):
    file = tmp_path / "config.json"
    file.write_text(content, encoding="utf-8")
    assert words in refused("run_kd_distil", "--experiment", "b", "--from_config", file)


def test_a_missing_config_is_refused(tmp_path, refused):
    assert "absent.json" in refused("run_kd_distil", "--experiment", "b", "--from_config", tmp_path / "absent.json")


def test_what_follows_from_a_flag_given_anew_follows_anew(data, run, teacher):
    base = ("--teacher_exp", "teacher", *CPU, "--task", "sst2", "--batch_size", 8, "--epoch", 1)
    run("run_lad_distil", "--experiment", "a", *base)
    repeat("run_lad_distil", data, run, "--epoch", 2, "--num_hidden_layers", 1)
    saved, gates = data.config("b"), data.config("b", name="gate_config.json")
    assert (saved["total_step"], gates["total_step"], saved["layer_map"]) == (6, 6, "4:1")


def test_help_lists_the_flags_of_a_script_that_repeats(capsys):
    with pytest.raises(SystemExit):
        importlib.import_module("run_lad_distil").build_parser().parse_args(["--help"])
    assert "--gate_init_bias" in capsys.readouterr().out


@pytest.mark.slow
def test_a_repetition_never_replaces_a_run_unasked(data, run, refused, teacher):
    run("run_kd_distil", "--experiment", "a", "--teacher_exp", "teacher", *QUICK, "--overwrite")
    run("run_kd_distil", "--experiment", "b", "--teacher_exp", "teacher", *QUICK)
    message = refused("run_kd_distil", "--experiment", "b", "--from_config", data.run("a") / "config.json")
    assert "--overwrite" in message


@pytest.mark.slow
def test_a_repetition_keeps_its_teacher(data, run, refused, teacher):
    run("run_kd_distil", "--experiment", "a", "--teacher_exp", "teacher", *QUICK)
    flags = ("--experiment", "b", "--from_config", data.run("a") / "config.json", "--teacher_exp", "other")
    assert "--teacher_exp: --from_config keeps" in refused("run_kd_distil", *flags)
