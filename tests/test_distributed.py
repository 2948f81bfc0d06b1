"""Tests of several processes: two under torchrun end where one ends that takes the same rows in two micro-batches.

And: every row is dealt once, one process writes, none waits for a dead one, an error is told once.
"""

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import forks
import numpy as np
import pytest
import torch

from fine_tune.data.batches import updates
from fine_tune.data.tokens import Split
from fine_tune.files import write_json
from fine_tune.flags.parser import Flags, Parser, usage_errors
from fine_tune.flags.shared import OptimConfig, Pace, SpeedConfig, StepConfig
from fine_tune.hardware.device import Devices
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.model.part import TrainedPart
from fine_tune.path import PROJECT
from fine_tune.run.optim import Part, Updater
from fine_tune.run.session import Session, Work
from fine_tune.run.start import Prepared, new_part, resolve
from fine_tune.tasks.table import TASKS
from fine_tune.train.methods import method_parser

TAUGHT = ("--teacher_exp", "teacher")
GATED = (*TAUGHT, "--gate_lr", 1e-3, "--gate_eps", 1e-6)
SCRIPTS = {
    "run_fine_tune": ("--max_seq_len", 24),
    "run_lad_distil": GATED,
    "run_student_fine_tune": TAUGHT,
    "run_lad_no_distil": GATED,
    "run_probing_lad": (*GATED, "--probing_exp", "lad_cls"),
    "run_alp_distil": TAUGHT,
    "run_pkd_distill": TAUGHT,
    "run_probing": (*TAUGHT, "--probing_exp", "pkd_cls_user_defined", "--teacher_indices", "2,4"),
    "run_kd_distil": TAUGHT,
}
"""Training scripts with the flags they need; a method that joins is tested with the others."""
RUNS = {script: (script, ()) for script in SCRIPTS} | {
    "narrower": ("run_pkd_distill", ("--d_model", 8, "--d_ff", 32, "--student_init", "random")),
}
"""Runs of those scripts; the last is of a student narrower than its teacher, whose states are projected."""
GATES = {"run_lad_distil": 3, "run_lad_no_distil": 2, "run_probing_lad": 3}
# An epsilon above the rounding of gradients that should be 0 (those of the keys' biases), which AdamW would blow up.
TRAIN = (
    "--task", "sst2", "--device_id", -1, "--batch_size", 10, "--dropout", 0, "--total_step", 20, "--warmup_step", 2,
    "--log_step", 5, "--ckpt_step", 10, "--lr", 1e-3, "--eps", 1e-6, "--no_lazy_embedding",
)  # fmt: skip


def flags(script: str, encoder: str) -> tuple[object, ...]:
    """What a script needs."""
    return (*SCRIPTS[script], *(("--ptrain_ver", encoder) if script == "run_fine_tune" else ()), *TRAIN)


class Launch:
    """A script in two processes under torchrun."""

    def __init__(self, root: Path, script: str, *argv: object) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command += [str(PROJECT / f"{script}.py"), *map(str, argv)]
        environment = os.environ | {"DATA_DIR": str(root), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)

    def end(self, seconds: float = 120) -> tuple[int, str, str]:
        """Wait: exit code, standard output, standard error."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err

    def workers(self) -> dict[int, int]:
        """Process ids by rank."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = {}
        for child in children:
            words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            found |= {int(word[5:]): int(child) for word in words if word.startswith(b"RANK=")}
        return found


@contextmanager
def torchrun(root: Path, script: str, *argv: object) -> Iterator[Launch]:
    """Start a script on the data in `root`; nothing of it is left in the end."""
    launch = Launch(root, script, *argv)
    try:
        yield launch
    finally:
        launch.process.terminate()  # torchrun ends its workers, too
        try:
            launch.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            for worker in launch.workers().values():
                os.kill(worker, 9)
            launch.process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_end_where_one_with_two_micro_batches_ends(name, data, run, teacher, encoder):
    """21 rows in batches of 10: the last update of an epoch has one row, and one process nothing to do."""
    file = data.file("SST-2/train.tsv")
    file.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:22]), encoding="utf-8")
    script, more = RUNS[name]
    base = (*flags(script, encoder), *more)
    run(script, "--experiment", "one", *base, "--accum_step", 2)
    if script == "run_lad_distil":
        with torchrun(data.root, script, "--experiment", "two", *base, "--teacher_cache", "states") as launch:
            code, out, err = launch.end()
        assert code == 0, err
    else:  # in forks: as under torchrun, but faster
        log = data.root / "log"
        assert forks.finish(forks.start(data.root, log, script, "--experiment", "two", *base, ranks=2)) == [0, 0]
        out = log.read_text(encoding="utf-8")
    one, two = data.run("one"), data.run("two")
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    checkpoints = sorted(path.name for path in one.glob("*-20.pt"))
    assert len(checkpoints) == 1 + GATES.get(script, 0)
    for name in checkpoints:
        a, b = (torch.load(folder / name, weights_only=True) for folder in (one, two))
        assert list(a) == list(b)
        assert max(float((value - b[key]).abs().max()) for key, value in a.items()) <= 1e-6, name
        before = torch.load(one / name.replace("-20", "-10"), weights_only=True)
        assert max(float((value - before[key]).abs().max()) for key, value in a.items()) >= 1e-3, name
    for mine, theirs in zip(data.metrics("one"), data.metrics("two"), strict=True):
        assert mine["step"] == theirs["step"] and set(mine) == set(theirs)
        names = [name for name in mine if name.endswith(("loss", "lr"))]
        assert [theirs[name] for name in names] == pytest.approx([mine[name] for name in names], rel=1e-5, abs=1e-6)
    experiments = data.root / "fine_tune_experiment"
    assert {path.name for path in experiments.iterdir()} == {"log", "teacher_bert_sst2", one.name, two.name}
    assert [line["step"] for line in data.metrics("two")] == [5, 10, 15, 20]
    assert len(list((experiments / "log" / two.name).iterdir())) == 1
    about = data.config("two", name="run.json")
    assert about["processes"] == 2 and about["end"]
    assert out.count("checkpoints and logs: ") == 1


@pytest.mark.slow
def test_evaluation_by_two_processes_writes_what_one_writes(data, run, teacher):
    ask = ("--experiment", "teacher", "--task", "sst2", "--device_id", -1, "--batch_size", 3, "--do_predict")
    run("run_fine_tune_eval", *ask)
    files = [*teacher.glob("eval_*.json"), *teacher.glob("*.tsv")]
    alone = {file.name: file.read_text(encoding="utf-8") for file in files}
    assert {"eval_dev.json", "prediction_dev-2.tsv", "prediction_dev-4.tsv", "SST-2.tsv"} < set(alone)
    for file in files:
        file.unlink()
    before = {path.name for path in teacher.iterdir()}
    with torchrun(data.root, "run_fine_tune_eval", *ask) as launch:
        code, out, err = launch.end()
    assert code == 0, err
    assert {path.name for path in teacher.iterdir()} == before | set(alone)
    assert {name: (teacher / name).read_text(encoding="utf-8") for name in alone} == alone
    assert out.count("best accuracy") == 1


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(data, teacher):
    base = [*TRAIN, "--teacher_exp", "teacher"]
    base[base.index("--total_step") + 1], base[base.index("--ckpt_step") + 1] = 10**6, 10**6
    with torchrun(data.root, "run_lad_distil", "--experiment", "x", *base) as launch:
        lines, start = data.run("x") / "metrics.jsonl", time.monotonic()
        while not (lines.is_file() and len(lines.read_text(encoding="utf-8").splitlines()) > 2):
            assert launch.process.poll() is None and time.monotonic() < start + 90
            time.sleep(0.1)
        workers = launch.workers()
        assert set(workers) == {0, 1}
        os.kill(workers[1], 9)
        code, _, _ = launch.end(60)
    assert code != 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers.values())
    assert data.config("x", name="run.json")["end"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [(("--batch_size", 0), "--batch_size must be > 0, got 0"), (("--experiment", "teacher"), "pass --overwrite")],
    ids=["before the models are built", "when the processes have met"],
)
def test_a_usage_error_is_told_once(change, message, data, teacher, encoder):
    base = ("--experiment", "x", *flags("run_fine_tune", encoder), *change)
    before = {path.name for path in teacher.iterdir()}
    with torchrun(data.root, "run_fine_tune", *base) as launch:
        code, out, err = launch.end(60)
    told = [line for line in (out + err).splitlines() if "run_fine_tune.py: error: " in line]
    assert len(told) == 1 and message in told[0], out + err
    assert code != 0
    assert {path.name for path in teacher.iterdir()} == before and not data.run("x").exists()


ENDS = """
import atexit, gc, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from fine_tune.hardware import distributed

def told():
    left = sum(isinstance(thing, DistributedDataParallel) for thing in gc.get_objects())
    print("initialised:", torch.distributed.is_initialized(), "wrapped:", left)

def main():
    distributed.start(torch.device("cpu"))
    shared = distributed.wrap(torch.nn.Linear(2, 2))
    shared(torch.ones(1, 2)).sum().backward()
    assert distributed.add_up(shared.module.weight.grad.clone()).sum() == 4
    assert torch.distributed.is_initialized() and isinstance(shared, DistributedDataParallel)
    if sys.argv[1:]:
        raise FloatingPointError(*sys.argv[1:])

distributed.world_size = lambda: 2  # there is one, which suffices to leave
atexit.register(told)  # called after what is registered later
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("error", [(), ("not finite",)], ids=["done", "error"])
def test_a_process_leaves_the_others_when_nothing_wrapped_is_left(error, monkeypatch):
    """Else it waits forever now and then, see `distributed.stop`; on a busy machine that was one run in seven."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-c", ENDS, *error]
    end = subprocess.run(command, env=os.environ | world, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert end.stdout == "initialised: False wrapped: 0\n", end.stderr
    assert (end.returncode, "FloatingPointError: not finite" in end.stderr) == (len(error), bool(error))


def launched(monkeypatch: pytest.MonkeyPatch, rank: int = 0, processes: int = 2) -> None:
    """Let torchrun have started this process."""
    world = {"RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    for name, value in world.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_after_the_first_waits_before_it_tells_an_error(rank, monkeypatch, capsys):
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    launched(monkeypatch, rank)
    with pytest.raises(SystemExit) as end, usage_errors(Parser("A script.")):
        raise ValueError("--lr is bad")
    assert end.value.code == 2
    assert capsys.readouterr().err.count("error: --lr is bad\n") == 1
    assert len(waits) == rank


CPU = torch.device("cpu")


def placed(*given: int | None) -> Devices:
    """Where a run of LAD lives with these numbers for its student, its teacher and its gates."""
    parser = method_parser("run_lad_distil", None)
    named = zip(("--device_id", "--tdevice_id", "--gate_device_id"), given, strict=False)
    words = [str(word) for flag, number in named if number is not None for word in (flag, number)]
    words += ["--experiment", "x", "--task", "sst2", "--teacher_exp", "teacher"]
    return resolve(parser.flags(parser.parse_args(words))).devices


def test_under_torchrun_no_flag_places_a_model(monkeypatch):
    launched(monkeypatch)
    assert placed(-1) == Devices(CPU, {"": CPU, "gate_": CPU})
    for given in [(0,), (-1, -1), (-1, None, -1), (None, 0), (None, None, 0)]:
        with pytest.raises(ValueError, match="under torchrun every process has one device"):
            placed(*given)


@pytest.mark.parametrize("processes", [1, 2])
def test_under_torchrun_no_embedding_is_lazy(processes, encoder, monkeypatch):
    """Gradients are exchanged whole."""
    launched(monkeypatch, processes=processes)
    groups = {OptimConfig: OptimConfig(), StepConfig: StepConfig(total_step=4, warmup_step=0)}
    flags = Flags({**groups, SpeedConfig: SpeedConfig()})
    run = Prepared(flags, TASKS["sst2"], Devices(CPU, {"": CPU}), None, None, None)  # type: ignore[arg-type]
    part = new_part(run, "", Classifier(pretrained_encoder(encoder), 2, 0.0))
    assert (part.lazy is None) == (processes == 2)


def split(count: int) -> Split:
    """Rows of lengths like those of SST-2, whose tokens do not matter."""
    lengths = np.random.default_rng(1).lognormal(np.log(11.2), 0.6, count).round().clip(3, 66).astype(int)
    tokens, offsets = np.ones(lengths.sum(), np.int32), np.cumsum([0, *lengths])
    ids, label = np.arange(count).astype(str), np.arange(count) % 2
    return Split(TASKS["sst2"], "train", ids, label, tokens, tokens.astype(np.uint8), offsets, 0, 66, "key")


def dealt(rows: Split, size: int, processes: int, accum: int, count: int):
    """The micro-batches of all processes, update by update."""
    streams = [
        updates(rows, batch_size=size, accum_step=accum, seed=3, process=rank, world_size=processes)
        for rank in range(processes)
    ]
    return [[next(stream) for stream in streams] for _ in range(count)]


@pytest.mark.parametrize(("count", "size"), [(200, 32), (203, 8), (21, 10), (5, 8)])
@pytest.mark.parametrize(("processes", "accum"), [(1, 1), (2, 1), (2, 2), (3, 1), (4, 2)])
def test_every_row_is_dealt_once_an_epoch(count, size, processes, accum):
    """An epoch's updates are those of a single process, each dealt out to all; idle batches have a weight of 0."""
    rows, number = split(count), -(-count // size)
    alone = itertools.chain(*(update[0] for update in dealt(rows, size, 1, 1, 2 * number)))
    epochs: list[list[int]] = [[], []]
    for at, (whole, shares) in enumerate(zip(alone, dealt(rows, size, processes, accum, 2 * number), strict=True)):
        given = [batch for share in shares for batch in share if batch.weight]
        together = [row for batch in given for row in batch.rows.tolist()]
        assert sorted(together) == sorted(whole.rows.tolist())
        assert all(1 <= len(share) <= accum for share in shares)
        assert all(len(batch.rows) <= -(-size // (accum * processes)) for batch in given)
        epochs[at // number] += together
    assert [sorted(epoch) for epoch in epochs] == [list(range(count))] * 2


@pytest.mark.parametrize(("count", "size"), [(200, 32), (203, 8), (21, 10), (5, 8)])
@pytest.mark.parametrize(("processes", "accum"), [(2, 1), (2, 2), (3, 1), (4, 2)])
def test_the_weights_of_an_update_sum_to_the_number_of_processes(count, size, processes, accum):
    """Gradients are averaged over the processes, so that every row counts alike."""
    for shares in dealt(split(count), size, processes, accum, 30):
        given = [batch for share in shares for batch in share if batch.weight]
        total = sum(len(batch.rows) for batch in given)
        assert sum(batch.weight for batch in given) == pytest.approx(processes, abs=1e-12)
        assert [batch.weight for batch in given] == pytest.approx([processes * len(b.rows) / total for b in given])


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_have_about_the_same_number_of_tokens(processes):
    """They differ by the longest row of the update at most, and by one in a hundred on average."""
    rows, gaps, tokens = split(5000), [], []
    for shares in dealt(rows, 32 * processes, processes, 1, 60):
        counts = [sum(int(rows.lengths[batch.rows].sum()) for batch in share) for share in shares]
        longest = max(int(rows.lengths[batch.rows].max()) for share in shares for batch in share)
        assert max(counts) - min(counts) <= longest
        gaps.append(max(counts) - min(counts))
        tokens.append(np.mean(counts))
    assert np.mean(gaps) <= 0.01 * np.mean(tokens)


def test_a_process_without_rows_gets_a_batch_of_weight_zero():
    (short,) = (shares for shares in dealt(split(21), 10, 4, 2, 3) if shares[1][0].weight == 0)
    (only,) = short[0]
    assert only.weight == 4 and len(only.rows) == 1
    for share in short[1:]:
        (idle,) = share
        assert idle.weight == 0 and idle.rows.tolist() == only.rows.tolist()
        assert idle.student["input_ids"].shape == only.student["input_ids"].shape


def test_a_process_after_the_first_writes_nothing(tmp_path, monkeypatch):
    write_json(tmp_path / "run.json", {"end": None})  # the first one's
    before = (tmp_path / "run.json").read_bytes()
    launched(monkeypatch, 1, processes=1)
    model = TrainedPart()
    model.weight = torch.nn.Parameter(torch.ones(2))
    updater = Updater({"": Part([model], OptimConfig(), 2, 0)})
    work = Work({"": model}, {"": CPU}, updater, lambda done: iter(()))
    with Session(work, tmp_path, tmp_path / "log", Pace(log_step=1, ckpt_step=1), total_step=2) as session:
        for _ in session.steps():
            loss = model.weight.square().sum()
            session.backward(loss)
            session.add(1.0, loss=loss)
            session.step()
    assert session.now == 2 and (model.weight < 1).all()
    write_json(tmp_path / "x.json", {})
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == before
