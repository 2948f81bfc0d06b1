"""Tests of the comparison of methods: what it runs, what it reads, what its report says."""

import contextlib
import csv
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import forks
import numpy as np
import pytest
import torch

from fine_tune.compare.train import make
from fine_tune.path import NETWORKS
from fine_tune.run.session import Session
from fine_tune.run.state import STATE
from fine_tune.train.methods import METHODS

BASE = ("--suite", "s", "--task", "sst2", "--teacher_exp", "teacher", "--device_id", -1, "--seeds", "1,2")
QUICK = (*BASE, "--total_step", 2, "--set", "batch_size=8", "--set", "lr=0.05")
TWO = (*QUICK, "--methods", "ft,lad")
RUNS = ["s-ft-1", "s-lad-1", "s-ft-2", "s-lad-2"]


@pytest.fixture
def made(monkeypatch, run):
    """Scripts run in this process; gives the names of what was run."""
    from fine_tune.compare import score as suite_score
    from fine_tune.compare import train as suite_run

    names = []

    def call(suite, script, words, name, what, lock):
        names.append(name)
        monkeypatch.setattr(sys, "argv", [f"{script}.py"])
        run(script, *words)

    for module in (suite_run, suite_score):
        monkeypatch.setattr(module, "call", call)
    return names


def suite(data, name="report.csv"):
    """A table of the suite `s`, or another file."""
    text = (data.root / "suites" / "s" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines())) if name.endswith("csv") else text


def predictions(data, experiment, split="dev"):
    """Steps whose predictions on a split are there."""
    return sorted(
        int(file.stem.split("-")[-1])
        for file in data.run(experiment).glob(f"{'suite' if split == 'dev' else 'prediction'}_{split}-*.tsv")
    )


def grow(data, times=10):
    """SST-2 with its 24 training rows many times over."""
    file = data.file("SST-2/train.tsv")
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([header, *rows * times]) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_a_suite_from_the_first_run_to_the_report(data, run, teacher, made, capsys):
    run("run_suite", *QUICK, "--methods", "ft,lad,warm=kd", "--set", "warm.softmax_temp=4")
    assert made == ["s-ft-1", "s-lad-1", "s-warm-1", "s-ft-2", "s-lad-2", "s-warm-2"]
    assert capsys.readouterr().out.endswith("suites/s/report.md\n")
    files = {path.name for path in (data.root / "suites" / "s").iterdir()}
    assert files == {"report.md", "report.csv", "pairs.csv", "report.png", "speed.json", "suite.json", ".lock"}
    for name in made:
        config = data.config(name)
        assert (config["dataset"], config["total_step"], config["batch_size"], config["lr"]) == ("train", 2, 8, 0.05)
        assert (config["seed"], config["teacher_exp"], config["tckpt"]) == (int(name[-1]), "teacher", 4)
        assert config.get("softmax_temp") == {"ft": None, "lad": 1.0, "warm": 4.0}[name[2:-2]]
        assert [path.name for path in data.run(name).glob("model-*.pt")] == ["model-2.pt"]

    rows = {row["row"]: row for row in suite(data)}
    assert list(rows) == ["teacher", "ft", "lad", "warm"]
    for name, row in rows.items():
        own = [("teacher", 4)] * 2 if name == "teacher" else [(f"s-{name}-{seed}", 2) for seed in (1, 2)]
        tables = [np.loadtxt(data.run(e) / f"suite_dev-{step}.tsv", skiprows=1) for e, step in own]
        accuracy = [np.mean(table[:, 1] == table[:, 2]) for table in tables]
        assert [float(row[f"accuracy_seed_{seed}"]) for seed in (1, 2)] == accuracy
        assert float(row["accuracy"]) == pytest.approx(np.mean(accuracy))
        assert float(row["of_teacher"]) == pytest.approx(np.mean(accuracy) / float(rows["teacher"]["accuracy"]))
        assert row["accuracy_sd"] == "" if name == "teacher" else float(row["accuracy_sd"]) == np.std(accuracy, ddof=1)
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
        weights = data.state(*own[0]).values()
        assert int(row["parameters"]) == sum(value.numel() for value in weights) and float(row["milliseconds"]) > 0
    pairs = [(row["one"], row["other"]) for row in suite(data, "pairs.csv")]
    assert pairs == [("teacher", "ft"), ("teacher", "lad"), ("teacher", "warm"), ("ft", "lad"), ("ft", "warm"),
                     ("lad", "warm")]  # fmt: skip
    assert all(float(row["holm_p"]) >= float(row["p"]) > 0 for row in suite(data, "pairs.csv"))
    report = suite(data, "report.md")
    for word in ("# s: sst2 dev, 8 rows", "--methods ft,lad,warm=kd", "seeds: 1, 2", "updates of every student: 2",
                 "warm=kd batch_size=8 lr=0.05 softmax_temp=4", "| lad - warm |", "(report.png)"):  # fmt: skip
        assert word in report
    assert (data.root / "suites" / "s" / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_scores_are_those_of_the_evaluation(data, run, teacher, made):
    run("run_suite", *TWO)
    run("run_fine_tune_eval", "--experiment", "s-lad-2", "--task", "sst2", "--device_id", -1)
    want = data.config("s-lad-2", name="eval_dev.json")["checkpoints"]["2"]["accuracy"]
    assert float(suite(data)[2]["accuracy_seed_2"]) == want


@pytest.mark.slow
def test_every_cell_hangs_on_the_predictions(data, run, teacher, made):
    run("run_suite", *TWO)
    before, pairs = suite(data), suite(data, "pairs.csv")
    file = data.run("s-lad-2") / "suite_dev-2.tsv"
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    right = [line[1] == line[2] for line in lines[1:]]
    for line in lines[1:]:
        line[2] = str(1 - int(line[1]))  # all wrong
    file.write_text("\n".join("\t".join(line) for line in lines) + "\n", encoding="utf-8")
    made.clear()
    run("run_suite", *TWO, "--report_only")
    after = suite(data)
    assert made == [] and after[:2] == before[:2] and "report_only" not in suite(data, "report.md")
    assert float(after[2]["accuracy_seed_2"]) == 0 < float(before[2]["accuracy_seed_2"]) == np.mean(right)
    assert after[2]["accuracy_seed_1"] == before[2]["accuracy_seed_1"]
    for column in ("accuracy", "accuracy_sd", "accuracy_low", "of_teacher"):
        assert after[2][column] != before[2][column]
    moved = [old != new for old, new in zip(pairs, suite(data, "pairs.csv"), strict=True)]
    assert moved == [False, True, True]  # those with lad


@pytest.mark.slow
def test_a_seed_gives_all_students_the_same_start_and_the_same_data(data, run, teacher, made):
    """Without what its teacher says, a student of LAD is the one that learns from labels alone."""
    alone = ("lad.soft_weight=0", "lad.hard_weight=1", "lad.hidden_mse_weight=0", "dropout=0", "eps=1", "log_step=1")
    run("run_suite", *TWO, "--total_step", 4, *(word for setting in alone for word in ("--set", setting)))
    losses = {name: [line.get("hard_loss", line["loss"]) for line in data.metrics(name)] for name in RUNS}
    assert losses["s-lad-1"] == pytest.approx(losses["s-ft-1"], rel=1e-5)
    assert losses["s-lad-2"] == pytest.approx(losses["s-ft-2"], rel=1e-5)
    assert losses["s-ft-1"] != pytest.approx(losses["s-ft-2"], rel=1e-4)
    pair = suite(data, "pairs.csv")[-1]
    assert (pair["one"], pair["other"], float(pair["difference"]), float(pair["p"])) == ("ft", "lad", 0, 1)


@pytest.mark.slow
def test_started_again_it_makes_what_is_missing(data, run, teacher, made):
    run("run_suite", *TWO)
    want = suite(data)
    made.clear()
    run("run_suite", *TWO)
    assert made == [] and suite(data) == want  # and nothing is timed again
    about = data.config("s-lad-1", name="run.json")
    (data.run("s-lad-1") / "run.json").write_text(json.dumps(about | {"end": None}), encoding="utf-8")
    shutil.rmtree(data.run("s-ft-2"))
    (data.run("s-lad-2") / "suite_dev-2.tsv").unlink()
    run("run_suite", *TWO)
    assert made == ["s-lad-1", "s-ft-2"]
    assert [{**row, "milliseconds": ""} for row in suite(data)] == [{**row, "milliseconds": ""} for row in want]
    made.clear()
    run("run_suite", *TWO, "--seeds", "1,2,3")
    assert made == ["s-ft-3", "s-lad-3"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_how_to_go_on(number, data, run, teacher, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("fine_tune.compare.train.call", lambda *_: signal.raise_signal(number))
    with pytest.raises(SystemExit) as end:
        run("run_suite", *TWO)
    assert end.value.code == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command continues from here\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_run_that_was_made_otherwise_is_refused_unless_it_may_be_replaced(data, run, refused, teacher, made):
    run("run_suite", *TWO)
    made.clear()
    message = refused("run_suite", *TWO, "--set", "lad.softmax_temp=7")
    assert "row lad, seed 1" in message and "softmax_temp 1.0, now it is 7.0" in message
    assert "--suite" in message and "--overwrite" in message
    assert "script run_lad_distil, now it is run_kd_distil" in refused("run_suite", *QUICK, "--methods", "ft,lad=kd")
    assert "gate_lr" in refused("run_suite", *TWO, "--set", "gate_lr=0.5")
    assert "num_hidden_layers 2, now it is 1" in refused("run_suite", *TWO, "--set", "num_hidden_layers=1")
    assert "tckpt 4, now it is 2" in refused("run_suite", *TWO, "--tckpt", 2)
    assert made == []
    other = ("--set", "lad.softmax_temp=7", "--set", "lad.num_hidden_layers=1")
    run("run_suite", *TWO, *other, "--overwrite")
    assert made == ["s-lad-1", "s-lad-2"] and data.config("s-lad-1")["softmax_temp"] == 7
    assert "softmax_temp 7.0, now it is 1.0" in refused("run_suite", *TWO, *other[2:])
    assert "num_hidden_layers 1, now it is left open" in refused("run_suite", *TWO, *other[:2])


@pytest.mark.slow
def test_what_the_run_filled_in_is_no_difference(data, run, teacher, made):
    """config.json holds sizes, layer map and updates that the command left open."""
    flags = (*BASE, "--methods", "lad-reverse", "--epoch", 1.5, "--set", "layer_map=last")
    run("run_suite", *flags)
    assert data.config("s-lad-reverse-1")["reverse_gate"] and data.config("s-lad-reverse-1")["layer_map"] != "last"
    made.clear()
    run("run_suite", *flags)
    assert made == []


BAD = {
    "method": ("--methods ft,lda", "--methods lda: the methods are fine_tune, kd, "),
    "same name": ("--methods lad,lad", "a row needs a name of its own"),
    "teacher": ("--methods teacher=ft", "a row needs a name of its own"),
    "name": ("--methods a/b=ft", "--methods may hold letters"),
    "suite": ("--suite ../s", "--suite may hold letters"),
    "seeds": ("--seeds 1,1", "--seeds must be different numbers such as 1,2,3, got '1,1'"),
    "seed": ("--seeds a", "--seeds must be different numbers"),
    "task": ("--task wnli", "--task must be one of"),
    "split": ("--dataset train", "--dataset train: must be a dev split of sst2, dev"),
    "teacher run": ("--teacher_exp absent", "--teacher_exp"),
    "checkpoint": ("--tckpt 3", "--tckpt 3"),
    "no value": ("--set lr", "--set lr: write key=value or ROW.key=value"),
    "row": ("--set x.lr=1", "--set x.lr=1: the rows are ft, lad"),
    "flag": ("--set no_such=1", "no script of these rows has the flag --no_such"),
    "flag of the row": ("--set ft.softmax_temp=1", "no script of ft has the flag --softmax_temp"),
    "own": ("--set lad.seed=1", "--set lad.seed=1: seed is given by the suite"),
    "own, by another name": ("--set max_steps=1", "total_step is given by the suite"),
    "help": ("--set help=true", "help is given by the suite"),
    "method's": ("--methods lad-reverse --set reverse_gate=true", "reverse_gate is given by the method lad_reverse"),
    "switch": ("--set amp=yes", "--amp is a switch, its only value is true"),
    "type": ("--set lr=fast", "--lr/--learning_rate: invalid float value: 'fast'"),
    "range": ("--set lad.soft_weight=-1", "--soft_weight must be >= 0, got -1.0"),
    "updates": ("--total_step 0", "--total_step must be > 0, got 0"),
    "unequal epochs": ("--set lad.batch_size=4", "batch_size 4 and 32 make epochs of unlike updates"),
    "selection on dev": ("--ckpt_step 1", "need --select_on train_select"),
    "sweep on dev": ("--sweep x.yaml", "need --select_on train_select"),
    "nothing there": ("--report_only", "s-ft-1 is not finished; leave out --report_only"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_runs(case, data, refused, teacher, made):
    words, want = BAD[case]
    assert want in refused("run_suite", *BASE, "--methods", "ft,lad", *words.split())
    assert made == [] and not data.run("s-ft-1").exists()


def test_a_folder_that_no_suite_made_is_left_alone(data, refused, teacher, made):
    folder = data.run("s-ft-1")
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert "has no run.json with its command, so it may be another's" in refused("run_suite", *TWO)
    (folder / "run.json").write_text("{", encoding="utf-8")
    assert "run.json: not a JSON file" in refused("run_suite", *TWO)
    (folder / "config.json").unlink()
    assert "is not a run (it has no config.json); it is left alone" in refused("run_suite", *TWO)
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_a_missing_dev_split_is_missed_at_the_start(data, refused, teacher, made):
    data.file("SST-2/dev.tsv").unlink()
    assert "scripts/prepare_sst2.sh" in refused("run_suite", *TWO)
    assert made == []


@pytest.mark.slow
def test_another_task_needs_another_name(data, run, refused, teacher, made):
    run("run_suite", *TWO)
    data.write("rte")
    shutil.copytree(teacher, data.run("teacher", "rte"))
    assert "--suite s is a comparison on sst2" in refused("run_suite", *TWO, "--task", "rte")


@pytest.mark.slow
def test_predictions_of_other_rows_are_not_compared(data, run, refused, teacher, made):
    run("run_suite", *TWO)
    file = data.run("s-lad-1") / "suite_dev-2.tsv"
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[: whole.rstrip("\n").rindex("\n") + 1], encoding="utf-8")
    assert f"{file} has other rows or labels" in refused("run_suite", *TWO)
    file.write_text(whole.replace("label", "gold"), encoding="utf-8")
    assert f"{file}: not a table with id, label and prediction" in refused("run_suite", *TWO)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["cola", "stsb", "mrpc"])
def test_tasks_with_other_metrics(task, data, run, encoder, made):
    data.write(task)
    base = ("--task", task, "--device_id", -1, "--total_step", 2)
    run("run_fine_tune", "--experiment", "t", "--ptrain_ver", encoder, "--max_seq_len", 24, *base)
    run("run_suite", *QUICK, "--methods", "ft,lad", "--task", task, "--teacher_exp", "t")
    run("run_fine_tune_eval", "--experiment", "s-ft-1", "--task", task, "--device_id", -1)
    scores = data.config("s-ft-1", task, "eval_dev.json")["checkpoints"]["2"]
    names = {"cola": ("matthews", "accuracy"), "stsb": ("pearson", "spearman"), "mrpc": ("accuracy", "f1")}[task]
    assert float(suite(data)[1][f"{names[0]}_seed_1"]) == scores[names[0]]
    assert 0 <= abs(float(suite(data)[1][names[1]])) <= 1
    mcnemar = [name for name in suite(data, "pairs.csv")[0] if name.startswith("mcnemar")]
    assert mcnemar == ([] if task == "stsb" else ["mcnemar_p_seed_1", "mcnemar_p_seed_2"])


SIZES = {
    "d_model": 16, "d_ff": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "max_seq_len": 24,
    "init_exp": "teacher", "init_start": 2, "init_step": 2,
}  # fmt: skip
"""With which an offline student starts as the others do."""


@pytest.mark.slow
def test_every_method_can_be_compared_and_all_start_alike(data, run, teacher, made):
    """The learning rate of the first update is 0: a student of one update is as it started."""
    maps = [f"{row}.gate_indices={gates}" for row, gates in (("lad_user_defined", "2,4"), ("partial_lad", "2"))]
    maps += [f"{row}_user_defined.teacher_indices=2,4" for row in ("pkd_hidden", "pkd_cls")]
    maps += [f"offline.{name}={value}" for name, value in SIZES.items()]
    maps += ["scl.after=match_hidden", "kd_from_ckpt.after=scl", "neg_num=3"]
    maps += [f"embedding_path={Path(__file__).with_name('vectors.txt')}"]
    own = [word for setting in maps for word in ("--set", setting)]
    run("run_suite", *QUICK, *own, "--seeds", "1", "--total_step", 1, "--methods", ",".join(METHODS))
    assert [row["row"] for row in suite(data)] == ["teacher", *METHODS] and suite(data)[1]["accuracy_sd"] == ""
    start = data.state("s-fine_tune-1", 1)
    for row in METHODS.keys() - set(NETWORKS):
        alike = {key: value for key, value in start.items() if row != "offline" or "linear_layer" not in key}
        assert all(value.equal(data.state(f"s-{row}-1", 1)[key]) for key, value in alike.items()), row
    text = (data.root / "suites" / "s" / "report.md").read_text(encoding="utf-8")
    assert "1; scl goes on from match_hidden, whose updates come before; kd_from_ckpt goes on from scl" in text
    written = [name for name in made if "build_" in name or "gen_logits" in name]
    assert written == [
        "s-offline-1-run_fine_tune_gen_logits", "s-contrast-1-build_membank",
        "s-layerwise_contrast-1-build_logitsbank", "s-layerwise_contrast-1-build_membank",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_chain_of_assistants_is_a_row_after_a_row(data, run, teacher, made):
    """Of each seed its own."""
    sizes = [word for name, value in SIZES.items() if name[:4] != "init" for word in ("--set", f"{name}={value}")]
    chain = ("--methods", "TA=offline,small=offline", "--set", "small.after=TA", "--set", "small.num_hidden_layers=1")
    run("run_suite", *QUICK, *sizes, *chain, "--seeds", "1,2", "--total_step", 1)
    for seed in (1, 2):
        assert data.config(f"s-small-{seed}")["dataset"] == f"s-TA-{seed}_bert_sst2"
        assert data.config(f"s-TA-{seed}")["dataset"] == "teacher_bert_sst2"
    before = len(made)
    run("run_suite", *QUICK, *sizes, *chain, "--seeds", "1,2", "--total_step", 1)
    assert len(made) == before  # nothing is missing


@pytest.mark.slow
def test_a_run_after_a_run_that_is_made_anew_is_made_anew(data, run, teacher, made, refused):
    """It would else be one of weights that are not there any more."""
    words = ("run_suite", *QUICK, "--methods", "match_hidden,scl", "--set", "scl.after=match_hidden")
    words += ("--seeds", "1", "--total_step", 1)
    run(*words)
    assert made == ["s-match_hidden-1", "s-scl-1"]
    shutil.rmtree(data.run("s-match_hidden-1"))
    told = refused(*words)
    assert "s-scl-1_bert_sst2 was made after a run s-match_hidden-1 that is not there any more" in told
    run(*words, "--set", "match_hidden.lr=0.1", "--overwrite")
    assert made[2:] == ["s-match_hidden-1", "s-scl-1"]
    grid = data.root / "grid.yaml"
    grid.write_text("scl: {lr: [0.1, 0.2]}", encoding="utf-8")
    told = refused(*words, "--sweep", grid, "--select_on", "train_select")
    assert "scl goes on from match_hidden, which is made later; it cannot be swept" in told


@pytest.mark.parametrize(("methods", "settings", "told"), [
    ("match_hidden,scl", ["match_hidden.use_classify_loss=true"], "row scl: say which row it continues: --set scl"),
    ("scl,match_hidden", ["scl.after=match_hidden"], "OTHER stands before ROW in --methods"),
    ("kd,lad", ["lad.after=kd"], "--set lad.after=kd: lad has no use for it, as scl, kd_from_ckpt and offline have"),
    ("kd,scl", ["after=kd"], "write ROW.after=OTHER"),
    ("kd,scl", ["scl.after=kd", "scl.src_ckpt=3"], "src_ckpt is given by the suite"),
])  # fmt: skip
def test_a_row_after_a_row_that_cannot_be_is_refused(methods, settings, told, data, teacher, refused):
    own = [word for setting in settings for word in ("--set", setting)]
    assert told in refused("run_suite", *QUICK, *own, "--seeds", "1", "--total_step", 1, "--methods", methods)


def spoil_dev(data):
    """Make any reading of dev an error; gives what puts it back."""
    file = data.file("SST-2/dev.tsv")
    text = file.read_text(encoding="utf-8")
    file.write_text("not to be read\n", encoding="utf-8")
    return lambda: file.write_text(text, encoding="utf-8")


SELECT = (*BASE, "--methods", "ft,lad", "--select_on", "train_select", "--set", "lr=0.05", "--set", "batch_size=8",
          "--set", "no_preflight=true")  # fmt: skip


@pytest.mark.slow
def test_checkpoints_are_chosen_on_the_slice_and_dev_is_read_at_the_end(data, run, refused, teacher, made):
    grow(data)
    put_back = spoil_dev(data)
    select = (*SELECT, "--total_step", 6, "--ckpt_step", 2)
    assert "dev.tsv:1: missing column" in refused("run_suite", *select)  # everything else is done
    assert made == [*RUNS, *(f"{name}-train_select" for name in RUNS)]
    for name in RUNS:
        assert data.config(name)["dataset"] == "train_fit"
        assert predictions(data, name, "train_select") == [2, 4, 6] and predictions(data, name) == []
    put_back()
    made.clear()
    run("run_suite", *select)
    assert made == []
    chosen = {}
    for name in RUNS:
        best = data.config(name, name="eval_train_select.json")["best"]["accuracy"]
        chosen[name] = min(step for step, value in best if value == best[0][1])
        assert predictions(data, name) == [chosen[name]]  # and no other
    assert not list(data.run("s-ft-1").glob("eval_dev.json"))
    steps = "; ".join(f"{row} " + ", ".join(str(chosen[f"s-{row}-{seed}"]) for seed in (1, 2)) for row in ("ft", "lad"))
    assert f"the best on train_select (which the teacher was trained on): {steps}" in suite(data, "report.md")


@pytest.mark.slow
def test_the_choice_hangs_on_the_predictions_on_the_slice(data, run, teacher, made):
    grow(data)
    select = (*SELECT, "--total_step", 4, "--ckpt_step", 2)
    run("run_suite", *select)
    (before,) = predictions(data, "s-ft-1")
    file = data.run("s-ft-1") / f"prediction_train_select-{6 - before}.tsv"
    header, *lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    text = "\n".join("\t".join(line) for line in [header, *([i, gold, gold, *rest] for i, gold, _, *rest in lines)])
    file.write_text(text + "\n", encoding="utf-8")
    worse = data.run("s-ft-1") / f"prediction_train_select-{before}.tsv"
    wrong = "\n".join("\t".join(line) for line in [header, *([i, g, str(1 - int(g)), *r] for i, g, _, *r in lines)])
    worse.write_text(wrong + "\n", encoding="utf-8")
    run("run_suite", *select)
    assert predictions(data, "s-ft-1") == [2, 4] and f"ft {6 - before}, " in suite(data, "report.md")


@pytest.mark.slow
def test_a_sweep_chooses_on_the_slice_and_the_winner_runs(data, run, refused, teacher, made, tmp_path):
    grow(data)
    put_back = spoil_dev(data)
    grid = tmp_path / "grid.yaml"
    grid.write_text("lad:\n  lr: [1.0e-9, 0.05]\n  softmax_temp: [1, 4]\n", encoding="utf-8")
    swept = (*SELECT, "--total_step", 4, "--ckpt_step", 4, "--sweep", grid)
    assert "dev.tsv:1: missing column" in refused("run_suite", *swept)
    names = [f"s-lad+lr={lr}+softmax_temp={temp}" for lr in ("1e-09", "0.05") for temp in (1, 4)]
    trained = [f"{name}-{seed}" for seed in (1, 2) for name in names]
    assert made[:16] == [*trained, *(f"{name}-train_select" for name in trained)]
    assert made[16:20] == RUNS
    points = json.loads(suite(data, "sweep.json"))
    assert [point["row"] for point in points] == ["lad"] * 4
    assert [point["point"] for point in points] == [name.removeprefix("s-lad+") for name in names]
    for point, name in zip(points, names, strict=True):
        scores = [data.config(f"{name}-{seed}", name="eval_train_select.json") for seed in (1, 2)]
        values = [score["checkpoints"]["4"]["accuracy"] for score in scores]
        assert [point["accuracy_seed_1"], point["accuracy_seed_2"]] == values
        assert point["accuracy_mean"] == pytest.approx(np.mean(values))
    means = [point["accuracy_mean"] for point in points]
    assert [point["chosen"] for point in points] == [index == means.index(max(means)) for index in range(4)]
    winner = points[means.index(max(means))]["point"]
    config = data.config("s-lad-1")
    assert winner == f"lr={config['lr']:g}+softmax_temp={config['softmax_temp']:g}"
    assert data.config("s-ft-1")["lr"] == 0.05
    assert [row["point"] for row in suite(data, "sweep.csv")] == [point["point"] for point in points]
    put_back()
    made.clear()
    run("run_suite", *swept)
    assert made == [] and predictions(data, trained[0]) == [] and predictions(data, "s-lad-1") == [4]


GRIDS = {
    "yaml": ("lad: [", "not a YAML file"),
    "list": ("- lad\n", "must map rows (ft, lad) to their flags"),
    "empty": ("", "must map rows (ft, lad) to their flags"),
    "row": ("pkd:\n  lr: [1]\n", "must map rows (ft, lad) to their flags, got 'pkd'"),
    "no flags": ("lad: 3\n", "lad must map flags to lists of values, got 3"),
    "no list": ("lad:\n  lr: 0.1\n", "lad, lr: must be a list of different values, got 0.1"),
    "twice": ("lad:\n  lr: [0.1, 0.1]\n", "must be a list of different values, got [0.1, 0.1]"),
    "flag": ("ft:\n  softmax_temp: [1]\n", "--sweep, ft: its script has no flag --softmax_temp"),
    "own": ("ft:\n  seed: [1]\n", "seed is given by the suite"),
    "range": ("ft:\n  lr: [-1]\n", "--lr must be > 0, got -1.0"),
    "name": ("ft:\n  ptrain_ver: [a/b]\n", "--sweep, ft: values may hold letters"),
}


@pytest.mark.parametrize("case", GRIDS)
def test_a_bad_grid_is_refused(case, refused, teacher, made, tmp_path):
    text, want = GRIDS[case]
    (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
    assert want in refused("run_suite", *SELECT, "--total_step", 2, "--sweep", tmp_path / "grid.yaml")
    assert made == []


LONG = (*TWO, "--total_step", 100, "--set", "log_step=1")


class Terminal:
    """Starts `run_suite.py` in process groups of their own, to be interrupted; its runs are processes as always."""

    def __init__(self, data, log):
        self.data, self.log = data, log

    def start(self):
        """Give the number of the process, and of its group."""
        (process,) = forks.start(self.data.root, self.log, "run_suite", *LONG)
        os.setpgid(process, process)
        return process

    def start_until(self, experiment):
        """Start it, and wait until a run is being trained."""
        process, lines = self.start(), self.data.run(experiment) / "metrics.jsonl"
        while forks.running([process]) and not (lines.is_file() and lines.stat().st_size):
            time.sleep(0.02)
        assert forks.running([process]), self.log.read_text()
        return process

    def end(self, process):
        """Wait for its end; give the exit code and what it said."""
        (code,) = forks.finish([process], 300)
        return code, self.log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_interrupted_twice_it_ends_with_the_same_table(data, run, teacher, request, tmp_path):
    """Ctrl-C in the second run, the suite killed in the third; then all of it in one go."""
    terminal = Terminal(data, tmp_path / "said")
    process = terminal.start_until("s-lad-1")
    os.kill(process, signal.SIGINT)
    code, said = terminal.end(process)
    assert code == 130 and said.endswith("\ninterrupted; the same command continues from here\n")
    assert "run 1 of 4: s-ft-1 .." in said and data.config("s-lad-1", name="run.json")["end"] is None
    first = data.config("s-ft-1", name="run.json")

    process = terminal.start_until("s-ft-2")
    os.killpg(process, signal.SIGSTOP)
    os.kill(process, signal.SIGKILL)  # the suite, not its run
    terminal.end(process)
    code, said = terminal.end(terminal.start())
    assert "is in use" in said and code == 2
    os.killpg(process, signal.SIGKILL)
    with (data.root / "suites" / "s" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits until it is gone

    code, said = terminal.end(terminal.start())
    assert code == 0, said
    assert "run 3 of 4: s-ft-2 .." in said and "s-lad-1" not in said
    assert data.config("s-ft-1", name="run.json") == first
    went_on, pairs = suite(data), suite(data, "pairs.csv")
    tables = {name: (data.run(name) / "suite_dev-100.tsv").read_bytes() for name in RUNS}

    request.getfixturevalue("made")  # the last one in this process
    for name in RUNS:
        shutil.rmtree(data.run(name))
    shutil.rmtree(data.root / "suites")
    run("run_suite", *LONG)
    assert {name: (data.run(name) / "suite_dev-100.tsv").read_bytes() for name in RUNS} == tables
    assert suite(data, "pairs.csv") == pairs
    assert [{**row, "milliseconds": ""} for row in suite(data)] == [{**row, "milliseconds": ""} for row in went_on]


@pytest.mark.slow
def test_a_run_that_fails_ends_the_suite_with_its_message(data, teacher, refused):
    """And what was made before stays."""
    flags = (*TWO, "--set", "lad.layer_map=9:1")
    message = refused("run_suite", *flags)
    assert "s-lad-1 failed: run_lad_distil.py: error: --layer_map 9:1: there is no teacher layer 9" in message
    log = data.root / "suites" / "s" / "lad-1.log"
    assert str(log) in message and log.is_file()
    assert data.config("s-ft-1", name="run.json")["end"] and not data.run("s-lad-1").exists()


@pytest.mark.slow
def test_a_student_of_another_teacher_is_not_taken_for_finished(data, run, refused, teacher, made):
    flags = (*QUICK, "--methods", "ft")
    run("run_suite", *flags)
    about = data.run("s-ft-1") / "run.json"
    values = json.loads(about.read_text(encoding="utf-8"))
    assert len(values["teacher_sha256"]) == 64
    about.write_text(json.dumps(values | {"teacher_sha256": "0" * 64}), encoding="utf-8")
    assert "teacher_sha256" in refused("run_suite", *flags)


@pytest.mark.slow
def test_flags_without_a_bearing_on_the_result_may_differ(data, run, teacher, made):
    run("run_suite", *QUICK, "--methods", "kd")
    run("run_suite", *QUICK, "--methods", "kd", "--set", "teacher_cache=logits", "--set", "log_step=1")
    assert made == ["s-kd-1", "s-kd-2"]


def test_a_bad_flag_of_the_gates_is_refused_before_anything_runs(data, refused, teacher, made):
    assert "--gate_lr" in refused("run_suite", *QUICK, "--methods", "ft,lad", "--set", "gate_lr=-1")
    assert made == []


OLD = {
    "config.json": (
        "accum_step amp batch_size beta1 beta2 cache_budget ckpt_step compile d_ff d_model dataset device_id dropout "
        "dry_run eps experiment gradient_checkpointing hard_weight init_embeddings init_from lazy_embedding log_step "
        "lr max_norm max_seq_len method model num_attention_heads num_class num_hidden_layers overwrite pad_to_max "
        "precision preflight ptrain_ver resume seed soft_weight softmax_temp state_step student_init task tckpt "
        "teacher_cache teacher_exp tmodel total_step type_vocab_size warmup_rate warmup_step weight_decay "
        "hidden_mse_weight layer_map gate_init_bias gate_norm gate_norm_init reverse_gate pkd_exp"
    ),
    "gate_config.json": "beta1 beta2 device_id dimension eps lr max_norm max_seq_length total_step warmup_step "
    "weight_decay",
    "run.json": (
        "argv commit compile_seconds data device device_type end gpus machine processes python start teacher_sha256 "
        "threads torch transformers"
    ),
}
"""What these files held when commit 3b69dfa wrote them: nothing but such keys."""


def age(folder):
    """Rewrite a run as the code of commit 3b69dfa left it: names, devices, keys, and the state to resume from.

    LAD reversed had the method of LAD; every student named a device of gates, and a teacher no student; the state had
    a `first_spread` for every method.
    """
    for name, keys in OLD.items():
        if not (folder / name).is_file():
            continue
        values = {key: value for key, value in json.loads((folder / name).read_text()).items() if key in keys.split()}
        if values.get("method") == "lad_reverse":
            values["method"] = "lad"
        if "device" in values:
            places = ("teacher", "student", "gate") if "teacher_sha256" in values else ("teacher",)
            values |= {key: dict.fromkeys(places, "cpu") for key in ("device", "device_type")}
        (folder / name).write_text(json.dumps(values), encoding="utf-8")
    if (folder / STATE).is_file():
        state = torch.load(folder / STATE, weights_only=True)
        assert set(state) == {"step", "weights", "updater", "processes"}
        assert set(state["updater"]) == {"parts", "scaler"}
        (mine,) = state["processes"]
        assert set(mine) == {"generator", "gpu_generators", "log"}
        mine["log"] = {key: mine["log"].get(key) for key in ("meter", "first_spread", "bytes")}
        torch.save(state, folder / STATE)


TAUGHT = ("--teacher_exp", "teacher")
OLDER = {
    "lad_reverse": ("run_lad_distil", "--reverse_gate", "--gate_lr", 1e-3, *TAUGHT),
    "kd": ("run_kd_distil", *TAUGHT),
    "fine_tune": ("run_fine_tune", "--max_seq_len", 24),
}
OLDER_RUN = ("--task", "sst2", "--device_id", -1, "--batch_size", 8, "--lr", 1e-3, "--total_step", 8, "--log_step", 3,
             "--ckpt_step", 4, "--state_step", 3)  # fmt: skip


@pytest.fixture
def older(encoder, run, teacher, data, monkeypatch):
    """`older("kd", "x")` makes a run as the older code would have left it, uncut or stopped after update 5."""

    def make(kind, experiment, cut=False):
        script, *words = OLDER[kind]
        words += ["--ptrain_ver", encoder] if kind == "fine_tune" else []
        monkeypatch.setattr(sys, "argv", [f"{script}.py"])
        command = (script, "--experiment", experiment, *OLDER_RUN, *words)
        with monkeypatch.context() as patch:
            if cut:
                plain = Session.advance
                patch.setattr(Session, "advance", lambda s: plain(s) or (s.now == 5 and s.note_signal(15, None)))
            with pytest.raises(SystemExit, match="143") if cut else contextlib.nullcontext():
                run(*command)
        age(data.run(experiment))
        return command

    return make


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lad_reverse", *(pytest.param(k, marks=pytest.mark.slow) for k in [*OLDER][1:])])
def test_an_interrupted_run_of_older_code_is_resumed(kind, older, run, data):
    """To the last bit. Checked once, by hand, with folders that commit 3b69dfa had left itself."""
    older(kind, "whole")
    command = older(kind, "cut", cut=True)
    assert json.loads((data.run("cut") / "run.json").read_text())["end"] is None
    run(*command, "--resume")
    whole, cut = data.run("whole"), data.run("cut")
    assert {file.name for file in whole.iterdir()} == {file.name for file in cut.iterdir()}
    assert data.metrics("cut") == data.metrics("whole") and [line["step"] for line in data.metrics("cut")] == [3, 6, 8]
    for file in whole.glob("*.pt"):
        one, two = (torch.load(folder / file.name, weights_only=True) for folder in (whole, cut))
        assert list(one) == list(two) and all(torch.equal(value, two[key]) for key, value in one.items()), file.name
    about = data.config("cut", name="run.json")
    assert len(about["resumed"]) == 1 and about["end"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", OLDER)
def test_a_run_of_older_code_is_scored_drawn_and_repeated(kind, older, run, data):
    script, *_ = older(kind, "a")
    ask = ("--experiment", "a", "--task", "sst2", "--device_id", -1)
    run("run_fine_tune_eval", *ask)
    run("generate_test_prediction", *ask)
    assert set(data.config("a", name="eval_dev.json")["checkpoints"]) == {"4", "8"}
    assert (data.run("a") / "SST-2.tsv").is_file()
    run("plot_run", data.run("a"))
    drawn = {file.stem for file in data.run("a").glob("*.png")}
    assert drawn == {"losses", "scores"} | ({"gates", "shares", "spread"} if kind == "lad_reverse" else set())
    run(script, "--experiment", "b", "--from_config", data.run("a") / "config.json")
    assert data.metrics("b") == data.metrics("a") and data.config("b")["method"] == kind
    if kind == "lad_reverse":
        run("plot_run", data.run("b"))
        shares = [(data.run(name) / "shares.csv").read_text() for name in "ab"]
        assert shares[0].replace("a_bert", "b_bert") == shares[1] and ",1,4," in shares[0]  # folded from above


@pytest.mark.slow
def test_a_suite_of_older_code_is_finished_under_older_names_and_new_ones(data, run, teacher, made):
    older = {"ft": "fine_tune", "pkd": "pkd-hidden", "lad-reverse": "lad_reverse", "lad-no": "lad_no",
             "pkd-user-defined": "pkd_hidden_user_defined"}  # fmt: skip
    once = (*QUICK, "--seeds", "1", "--set", "pkd-user-defined.teacher_indices=2,4")
    run("run_suite", *once, "--methods", ",".join(older))
    names = [f"s-{row}-1" for row in older]
    assert made == names
    assert [data.config(name)["method"] for name in names] == list(older.values())
    for name in names:
        age(data.run(name))
    assert data.config("s-lad-reverse-1")["method"] == "lad"
    made.clear()
    for methods in (older, [f"{row}={method}" for row, method in older.items()]):
        run("run_suite", *once, "--methods", ",".join(methods))
        assert made == [] and [row["row"] for row in suite(data)] == ["teacher", *older]
    about = data.run("s-lad-reverse-1") / "run.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"end": None}), encoding="utf-8")
    run("run_suite", *once, "--methods", ",".join(older))
    assert made == ["s-lad-reverse-1"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_runs_wait_for_what_they_read_and_a_failure_ends_all(jobs, monkeypatch):
    """Some at a time: nothing begins before what it goes on from, or reads, is there; files are written once."""
    done, lock = [], threading.Lock()

    def call(suite, script, words, name, what, number):
        with lock:
            began = list(done)
        if script == "learns":
            assert "writes said" in began and (name != "second-1" or {"learns first-1", "writes first"} <= {*began})
        if name == "broken-1":
            raise ChildProcessError("broken-1 failed")
        with lock:
            done.append(f"{script} {words[0] if script == 'writes' else name}")

    monkeypatch.setattr("fine_tune.compare.train.call", call)
    monkeypatch.setattr("fine_tune.compare.train.reached", lambda *_: "missing")

    def planned(name, after="", reads=("said",)):
        method = SimpleNamespace(script="learns")
        row = SimpleNamespace(name=name, after=after, method=method)
        files = [("writes", [each]) for each in reads]
        return SimpleNamespace(row=row, seed=1, experiment=f"{name}-1", words=[""], files=files)

    runs = [planned("first"), planned("second", "first", ("said", "first")), planned("third")]
    suite = SimpleNamespace(jobs=jobs, overwrite=False, report_only=False)
    make(suite, runs, 0)
    assert sorted(done) == ["learns first-1", "learns second-1", "learns third-1", "writes first", "writes said"]
    done.clear()
    with pytest.raises(ChildProcessError, match="broken-1 failed"):
        make(suite, [planned("broken"), *(planned(f"r{number}") for number in range(20))], 0)
    assert len(done) < 20 and not [name for name in done if "broken" in name]
