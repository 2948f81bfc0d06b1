"""Tests that an interrupted run goes on to the last bit, for every method: `--resume`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forks
import pytest
import torch
from methods import METHODS, flags
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fine_tune.files import unlock
from fine_tune.losses import hard_target_loss
from fine_tune.path import PROJECT
from fine_tune.run.optim import Updater
from fine_tune.run.state import STATE

PACE = ("--total_step", 12, "--warmup_step", 2, "--log_step", 5, "--ckpt_step", 5, "--state_step", 3)
BASE = (*PACE, "--device_id", -1, "--task", "sst2", "--batch_size", 8, "--accum_step", 2, "--lr", 1e-3, "--seed", 7)
TAUGHT = (*BASE, "--teacher_exp", "teacher")
"""24 rows: an epoch has 3 updates of 2 micro-batches; dropout is on."""
RUNS = [*METHODS, "narrower", "cached", "run_student_fine_tune", "run_fine_tune"]
RESUMED = [*RUNS[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in RUNS[1:])]


class Killed(BaseException):
    """As if the process had ended there."""


def command(name: str, encoder: str) -> tuple[Any, ...]:
    """Script and flags of a run."""
    if name == "run_fine_tune":
        return ("run_fine_tune", *BASE, "--ptrain_ver", encoder, "--max_seq_len", 24)
    if name == "run_student_fine_tune":
        return ("run_student_fine_tune", *TAUGHT)
    more = {"narrower": ("--d_model", 8, "--student_init", "random"), "cached": ("--teacher_cache", "states")}
    script, *words = flags("lad" if name in more else name, *TAUGHT, gate={"lr": 1e-3, "init_bias": 1})
    return (script, *words, *more.get(name, ()))


def interrupted(monkeypatch: pytest.MonkeyPatch, name: str, call: int, what: Callable[[], None]) -> pytest.MonkeyPatch:
    """Have something happen in the given call, from 1 on, of a method of `Updater`."""
    plain, calls = getattr(Updater, name), []

    def watched(*args: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            what()
        return plain(*args)

    monkeypatch.setattr(Updater, name, watched)
    return monkeypatch


def die() -> None:
    """End as if killed."""
    raise Killed


def same(whole: Path, cut: Path) -> None:
    """Check that two runs left the same, to the last bit."""
    files = {path.name for path in whole.iterdir()}
    assert files == {path.name for path in cut.iterdir()} and STATE not in files
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()
    checkpoints = sorted(whole.glob("*.pt"))
    assert {"model-5.pt", "model-10.pt", "model-12.pt"} <= {file.name for file in checkpoints}
    for file in checkpoints:
        one, two = (torch.load(folder / file.name, weights_only=True) for folder in (whole, cut))
        assert list(one) == list(two) and all(torch.equal(value, two[key]) for key, value in one.items()), file.name


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_cut_three_times_ends_as_an_uncut_one(name, data, run, teacher, encoder, monkeypatch):
    """Killed in the middle of an accumulation, stopped by SIGTERM and by Ctrl-C in the middle of an epoch."""
    script, *words = command(name, encoder)
    run(script, "--experiment", "whole", *words)
    cuts = [("backward", 8, die, Killed), ("step", 2, lambda: os.kill(os.getpid(), signal.SIGTERM), SystemExit)]
    cuts += [("step", 3, lambda: os.kill(os.getpid(), signal.SIGINT), SystemExit)]
    for number, (method, call, what, error) in enumerate(cuts):
        with monkeypatch.context() as patch, pytest.raises(error) as end:
            interrupted(patch, method, call, what)
            run(script, "--experiment", "cut", *words, "--resume")
        assert getattr(end.value, "code", None) == (None, 128 + signal.SIGTERM, 128 + signal.SIGINT)[number]
        assert (data.run("cut") / STATE).is_file()
    run(script, "--experiment", "cut", *words, "--resume")
    same(data.run("whole"), data.run("cut"))
    about = data.config("cut", name="run.json")
    assert len(about["resumed"]) == 3 and about["end"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lad", "run_fine_tune"])
def test_two_processes_go_on_as_one_does(name, data, teacher, encoder, tmp_path):
    """Killed once the second state is there, then told to stop; a dry run ends on both, and leaves nothing."""
    script, *words = command(name, encoder)

    def start(experiment: str, *more: str) -> list[int]:
        return forks.start(data.root, tmp_path / "said", script, "--experiment", experiment, *words, *more, ranks=2)

    assert forks.finish(start("dry", "--dry_run")) == [0, 0] and not data.run("dry").exists()
    assert forks.finish(start("whole")) == [0, 0]
    processes, state = start("cut"), data.run("cut") / STATE
    while forks.running(processes) and not (state.is_file() and torch.load(state, weights_only=True)["step"]):
        time.sleep(0.001)
    for process in processes:
        os.kill(process, signal.SIGKILL)
    assert forks.finish(processes) == [-9, -9]
    processes, size = start("cut", "--resume"), (data.run("cut") / "metrics.jsonl").stat().st_size
    while forks.running(processes) and (data.run("cut") / "metrics.jsonl").stat().st_size <= size:
        time.sleep(0.001)
    os.kill(processes[1], signal.SIGTERM)  # both save and end, though one was told
    assert forks.finish(processes) == [143, 143]
    assert forks.finish(start("cut", "--resume")) == [0, 0]
    same(data.run("whole"), data.run("cut"))


def cut(run, monkeypatch, *words: Any, after: int = 8) -> None:
    """Stop a run by a signal."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupted(patch, "step", after, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run(*words)


LAD = ("run_lad_distil", "--experiment", "cut", *TAUGHT, "--gate_lr", 1e-3)


@pytest.mark.slow
def test_tensorboard_has_every_point_once(data, run, teacher, monkeypatch):
    run("run_lad_distil", "--experiment", "whole", *LAD[3:])
    cut(run, monkeypatch, *LAD, after=11)
    run(*LAD, "--resume")
    for name in ("whole", "cut"):
        events = EventAccumulator(str(data.root / "fine_tune_experiment" / "log" / data.run(name).name)).Reload()
        for metric in ("loss", "lr", "gate_2"):
            assert [point.step for point in events.Scalars(f"train/{metric}")] == [5, 10, 12]


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_is_not_overwritten(data, run, teacher, refused, monkeypatch, caplog):
    cut(run, monkeypatch, *LAD)
    assert [line for line in caplog.messages if "SIGTERM after update 8" in line]
    files = {path.name: path.read_bytes() for path in data.run("cut").glob("*.*")}
    assert "--resume continues it; else choose another --experiment" in refused(*LAD)
    assert {path.name: path.read_bytes() for path in data.run("cut").glob("*.*")} == files


OTHERS = {
    "lr": ("--lr", 2e-3),
    "total_step": ("--total_step", 13),
    "beta1": ("--gate_beta1", 0.8),
    "seed": ("--seed", 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lr", *(pytest.param(name, marks=pytest.mark.slow) for name in [*OTHERS][1:])])
def test_a_run_goes_on_only_with_what_it_began_with(name, data, run, teacher, refused, monkeypatch):
    cut(run, monkeypatch, *LAD)
    state = (data.run("cut") / STATE).read_bytes()
    told = refused(*LAD, *OTHERS[name], "--resume")
    assert f"has {name} " in told and "give what the run began with, or --overwrite" in told
    assert (data.run("cut") / STATE).read_bytes() == state


@pytest.mark.slow
def test_other_rows_or_another_teacher_are_no_way_to_go_on(data, run, teacher, refused, monkeypatch):
    cut(run, monkeypatch, *LAD)
    file = data.file("SST-2/train.tsv")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.rsplit("\n", 2)[0] + "\n", encoding="utf-8")
    assert "run.json has data " in refused(*LAD, "--resume")
    file.write_text(text, encoding="utf-8")
    weights = torch.load(teacher / "model-4.pt", weights_only=True)
    weights["linear_layer.bias"] += 1
    torch.save(weights, teacher / "model-4.pt")
    assert "run.json has teacher_sha256 " in refused(*LAD, "--resume")


@pytest.mark.slow
def test_resume_begins_what_is_not_there_and_leaves_what_is_complete(data, run, teacher, refused, capsys):
    run(*LAD, "--resume")
    files = {path.name: path.stat().st_mtime_ns for path in data.run("cut").iterdir()}
    with pytest.raises(SystemExit) as end:
        run(*LAD, "--resume")
    assert not end.value.code and "is complete: there is nothing to --resume" in capsys.readouterr().out
    assert "lr 0.001, now it is 0.1; give what the run began with, or --overwrite" in refused(
        *LAD, "--resume", "--lr", 0.1
    )
    assert {path.name: path.stat().st_mtime_ns for path in data.run("cut").iterdir()} == files


@pytest.mark.slow
def test_what_was_killed_before_its_first_update_goes_on(data, run, teacher, monkeypatch):
    """Before its first state, too: there is nothing but the folder then."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        interrupted(patch, "backward", 1, die)
        run(*LAD)
    state = data.run("cut") / STATE
    assert torch.load(state, weights_only=True)["step"] == 0
    state.unlink()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        interrupted(patch, "backward", 1, die)
        run(*LAD, "--resume")
    run(*LAD, "--resume")
    assert data.config("cut", name="run.json")["end"]


@pytest.mark.slow
def test_scores_of_an_interrupted_run_stay_in_tensorboard(data, run, teacher, monkeypatch):
    cut(run, monkeypatch, *LAD)
    run("run_fine_tune_eval", "--experiment", "cut", "--task", "sst2", "--device_id", -1)
    run(*LAD, "--resume")
    events = EventAccumulator(str(data.root / "fine_tune_experiment" / "log" / data.run("cut").name)).Reload()
    assert [point.step for point in events.Scalars("sst2/dev/accuracy")] == [5]


@pytest.mark.slow
def test_a_recipe_started_again_goes_on_to_what_is_missing(data, teacher):
    short = "--total_step 4 --warmup_step 1 --batch_size 8 --no_preflight"
    about = {"DATA_DIR": str(data.root), "TEACHER": "teacher", "DEVICE_ID": "-1", "EXTRA_ARGS": short}
    for told in ("checkpoints and logs: ", "is complete: there is nothing to --resume"):
        command = ["bash", str(PROJECT / "scripts" / "sst2.sh")]
        environment = {**os.environ, **about, "VIRTUAL_ENV": sys.prefix}
        end = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert end.returncode == 0 and told in end.stdout and "best accuracy" in end.stdout, end.stderr
        assert (data.run("LAD") / "SST-2.tsv").is_file()
        data.file("SST-2/test.tsv").unlink(missing_ok=True)  # predicting once is enough


@pytest.mark.parametrize(
    ("extra", "argument", "given"), [("", "", "--resume"), ("--overwrite", "", ""), ("", "--overwrite", "")]
)
def test_a_recipe_begins_anew_if_told(extra, argument, given):
    command = ["bash", "-c", '. scripts/env.sh; echo "$RESUME"', "bash", *argument.split()]
    end = subprocess.run(command, env={**os.environ, "EXTRA_ARGS": extra}, cwd=PROJECT, capture_output=True, text=True)
    assert end.stdout.strip() == given


@pytest.mark.slow
def test_a_damaged_state_is_told_and_kept(data, run, teacher, refused, monkeypatch):
    cut(run, monkeypatch, *LAD)
    file = data.run("cut") / STATE
    file.write_bytes(file.read_bytes()[:1000])
    assert "no state of this run" in refused(*LAD, "--resume") and file.stat().st_size == 1000


def test_resume_and_overwrite_contradict(refused, data, teacher):
    assert "--resume continues a run, --overwrite replaces it; give one of them" in refused(
        *LAD, "--resume", "--overwrite"
    )


@pytest.mark.slow
def test_a_run_belongs_to_one_process(data, run, teacher, refused, monkeypatch):
    cut(run, monkeypatch, *LAD)
    hold = (
        "import sys, pathlib; from fine_tune.files import lock; lock(pathlib.Path(sys.argv[1]));"
        "print('held', flush=True); sys.stdin.read()"
    )
    unlock(data.run("cut"))
    command = [sys.executable, "-c", hold, str(data.run("cut"))]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        for more in ("--resume", "--overwrite"):
            told = refused(*LAD, more)
            assert f"in use by process {other.pid} on " in told
        other.kill()  # its lock falls with it
    run(*LAD, "--resume")


@pytest.mark.slow
def test_only_the_last_checkpoints_are_kept(data, run, teacher):
    run(*LAD, "--ckpt_step", 2, "--keep_last", 2)
    kept = {int(file.stem.rsplit("-", 1)[1]) for file in data.run("cut").glob("*-*.pt")}
    assert kept == {10, 12} and len(list(data.run("cut").glob("*-*.pt"))) == 2 * 4


@pytest.mark.slow
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_ends_the_run_before_anything_is_saved(where, data, run, teacher, monkeypatch):
    """At the update where it happened, with its rows; the state before it is still there."""
    plain = Updater.backward

    def backward(self: Updater, loss: torch.Tensor) -> None:
        calls.append(1)
        if where == "gradient" and len(calls) > 14:
            loss.register_hook(lambda gradient: gradient * torch.inf)
        plain(self, loss)

    calls: list[int] = []
    monkeypatch.setattr(Updater, "backward", backward)
    if where == "loss":
        monkeypatch.setattr("fine_tune.train.lad.hard_target_loss", lambda logits, label: (
            hard_target_loss(logits, label) * (torch.inf if len(calls) >= 14 else 1)
        ))  # fmt: skip
    with pytest.raises(SystemExit, match=r"update 8: .*\(rows (\d+(, )?){8}\); last good checkpoint: model-5"):
        run(*LAD)
    assert torch.load(data.run("cut") / STATE, weights_only=True)["step"] == 6
    assert {file.name for file in data.run("cut").glob("model-*")} == {"model-5.pt"}
