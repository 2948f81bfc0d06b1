"""Kills runs in every way, goes on with them, and compares: `make torture` writes the table of doc/reliability.md.

    python tests/torture.py --out doc/reliability.md

Real scripts on tiny models: this process imports everything once, every run is a fork of it, killed from outside.
"""

import argparse
import contextlib
import copy
import ctypes
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import conftest  # noqa: E402
import forks  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from methods import METHODS, STAGED, TABLE, flags  # noqa: E402

from fine_tune.flags.shared import TeacherRef  # noqa: E402
from fine_tune.model.checkpoint import list_checkpoints, load_state, save_checkpoint  # noqa: E402
from fine_tune.path import NETWORKS  # noqa: E402
from fine_tune.run.state import STATE  # noqa: E402
from fine_tune.teacher import store  # noqa: E402

STEPS, KILLS = 48, 5
MARKS = ("<!-- torture -->", "<!-- end -->")
"""What stands around the table in a file."""
LOGS = tempfile.TemporaryDirectory()
PACE = ("--total_step", STEPS, "--warmup_step", 2, "--log_step", 5, "--ckpt_step", 9, "--state_step", 4)
BASE = (*PACE, "--device_id", -1, "--task", "sst2", "--batch_size", 8, "--accum_step", 2, "--lr", 1e-3, "--seed", 7)
TAUGHT = (*BASE, "--teacher_exp", "teacher")


class Outcome(NamedTuple):
    """A line of the table."""

    fault: str
    tried: int
    result: str


class World:
    """A data folder with tiny data, a tiny encoder, a tiny teacher."""

    def __init__(self, root: Path) -> None:
        """Make it."""
        self.root, self.draw = root, random.Random(0)
        self.started: list[int] = []
        conftest.write_task(root, "sst2", train=24)
        self.encoder = conftest.make_encoder(root / "encoder", transformers.BertConfig(**conftest.SIZES))
        script, *words = command("run_fine_tune", self.encoder)
        self.whole(script, "teacher", *words, "--keep_last", 1)
        self.whole("run_fine_tune_distill_mgpu", "source", *TAUGHT, "--use_hidden_loss")
        of = ("--task", "sst2", "--device_id", -1)
        for script, *own in dict.fromkeys(each for method in TABLE.values() for each in method.files):
            self.whole(script, "teacher", *of, *own)

    def folder(self, experiment: str) -> Path:
        """Folder of a run, whose name ends with its method's."""
        model = next((name for name in NETWORKS if experiment.endswith(f"-{name}")), "bert")
        return self.root / "fine_tune_experiment" / f"{experiment}_{model}_sst2"

    def start(self, script: str, experiment: str, *words: Any, ranks: int = 1) -> list[int]:
        """Start a run; gives the ids of its processes."""
        processes = forks.start(self.root, log_of(experiment), script, "--experiment", experiment, *words, ranks=ranks)
        self.started += processes
        return processes

    def end(self) -> None:
        """Kill what still runs, so that nobody writes into the folder while it is removed."""
        for process in self.started:
            with contextlib.suppress(ChildProcessError):  # those that were waited for
                forks.finish([process], 0)

    def whole(self, script: str, experiment: str, *words: Any, ranks: int = 1) -> float:
        """Make a run without any fault; gives its seconds."""
        start = time.monotonic()
        self.succeed(forks.finish(self.start(script, experiment, *words, ranks=ranks)), experiment)
        return time.monotonic() - start

    def cut(self, script: str, experiment: str, *words: Any, ranks: int, within: float, when: Any = None) -> int:
        """Kill a run at random moments, or when something is seen, and go on until it ends; counts the kills.

        Of several processes all are killed, or one, and the others are told to stop, as torchrun would.
        """
        kills = 0
        while True:
            seen = when() if when else None
            processes = self.start(script, experiment, *words, "--resume", ranks=ranks)
            if kills == KILLS or not wait_until(seen, self.draw.uniform(0.1, 0.6 * within), processes):
                self.succeed(forks.finish(processes), experiment)
                return kills
            one = self.draw.randrange(2 * ranks)
            for number, process in enumerate(processes):
                os.kill(process, signal.SIGTERM if one < ranks and number != one else signal.SIGKILL)
            forks.finish(processes, 10)
            kills += 1

    def succeed(self, codes: list[int], experiment: str) -> None:
        """Stop here if a run failed that must not."""
        assert set(codes) == {0}, f"{experiment}: {codes}\n{log_of(experiment).read_text(encoding='utf-8')[-2000:]}"

    def same(self, one: str, two: str) -> bool:
        """Whether two runs left the same weights and the same log."""
        a, b = self.folder(one), self.folder(two)
        names = sorted(path.name for path in a.glob("*.pt"))
        if names != sorted(path.name for path in b.glob("*.pt")) or STATE in names:
            return False
        if (a / "metrics.jsonl").read_bytes() != (b / "metrics.jsonl").read_bytes():
            return False
        pairs = [(load_state(a / name), load_state(b / name)) for name in names]
        return all(list(x) == list(y) and all(torch.equal(x[key], y[key]) for key in x) for x, y in pairs)


def log_of(experiment: str) -> Path:
    """File of what a run says; not on the disk that is full."""
    return Path(LOGS.name) / f"{experiment}.log"


def wait_until(seen: Callable[[], bool] | None, seconds: float, processes: Sequence[int]) -> bool:
    """Wait for a moment, or for something to be seen; whether the run was still there then."""
    end = time.monotonic() + (seconds if seen is None else 30)
    while time.monotonic() < end and not (seen and seen()):
        if len(forks.running(processes)) < len(processes):
            return False
        time.sleep(0.002 if seen is None else 0)
    return True


def command(name: str, encoder: str) -> tuple[Any, ...]:
    """Script and flags of a run."""
    if name == "run_fine_tune":
        return ("run_fine_tune", *BASE, "--ptrain_ver", encoder, "--max_seq_len", 24)
    if name == "run_student_fine_tune":
        return ("run_student_fine_tune", *TAUGHT)
    if name in STAGED:
        words = [STEPS // 2 if last in ("--cls_steps", "--contrast_steps") else word
                 for last, word in zip(("", *STAGED[name]), STAGED[name], strict=False)]  # fmt: skip
        taught = TAUGHT if TeacherRef in TABLE[name].groups else BASE
        return (TABLE[name].script, *taught, *words, "--accum_step", 1)  # a contrast of classes needs four rows
    return flags(name, *TAUGHT, gate={"lr": 1e-3})


def kills_at_random(world: World, ranks: int = 1) -> Outcome:
    """Every method; a run that ends before it was killed often enough is made again."""
    tried, bad = 0, []
    for name in (*METHODS, *STAGED, "run_student_fine_tune", "run_fine_tune"):
        script, *words = command(name, world.encoder)
        whole, cut, kills = f"whole-{ranks}-{name}", f"cut-{ranks}-{name}", 0
        seconds = world.whole(script, whole, *words, ranks=ranks)
        for _ in range(KILLS):
            if kills >= KILLS:
                break
            shutil.rmtree(world.folder(cut), ignore_errors=True)
            kills += world.cut(script, cut, *words, ranks=ranks, within=seconds)
            bad += [] if world.same(whole, cut) else [name]
        tried, bad = tried + kills, bad + ([f"{name}: {kills} kills"] if kills < KILLS else [])
    return Outcome(f"SIGKILL at random moments, every method, {ranks} process(es)", tried, verdict(bad))


def kills_of_two(world: World) -> Outcome:
    """The same of two processes."""
    return kills_at_random(world, ranks=2)


def kills_while_saving(world: World) -> Outcome:
    """Whenever the temporary file of a state or a checkpoint is being written."""
    script, *words = command("lad", world.encoder)
    world.whole(script, "save-whole", *words)
    tried, bad = 0, []
    for name in (STATE, "model-9.pt", "gate-1-18.pt"):
        run = f"save-cut-{name.split('.')[0]}"
        when = partial(appeared, world.folder(run), f".{name}.*.part")
        kills = world.cut(script, run, *words, ranks=1, within=0, when=when)
        tried += kills
        bad += [] if world.same("save-whole", run) and kills else [name]
    return Outcome("SIGKILL while a state, a model, a gate is written", tried, verdict(bad))


def kills_while_caching(world: World) -> Outcome:
    """While the teacher's outputs are being written, on one process and on two."""
    script, *words = command("lad", world.encoder)
    words += ["--teacher_cache", "states"]
    cache, tried, bad = world.root / "cache", 0, []
    store.SECONDS = 0.0  # it is noted after every batch how far the filling has come, so that it goes on from there

    def filling() -> Callable[[], bool]:
        states = [changed(folder / "states.npy") for folder in caches]
        return lambda: any(state() for state in states)

    for ranks in (1, 2):
        world.whole(script, f"cache-whole-{ranks}", *words, ranks=ranks)
        caches = [folder.with_name(f".{folder.name}") for folder in cache.glob("teacher-*")]
        for folder in cache.glob("teacher-*"):
            shutil.rmtree(folder)
        kills = world.cut(script, f"cache-cut-{ranks}", *words, ranks=ranks, within=0, when=filling)
        tried += kills
        bad += [] if world.same(f"cache-whole-{ranks}", f"cache-cut-{ranks}") and kills else [f"{ranks} processes"]
    return Outcome("SIGKILL while a teacher's cache is written", tried, verdict(bad))


def signals(world: World) -> Outcome:
    """SIGTERM and Ctrl-C: seconds until the run is gone, and its exit code. A long run: it must outlive all four."""
    script, *words = command("lad", world.encoder)
    words += ["--total_step", 2 * STEPS]
    world.whole(script, "signal-whole", *words)
    slowest, bad, tried = 0.0, [], 0
    for which in (signal.SIGTERM, signal.SIGINT) * 2:
        seen = changed(world.folder("signal-cut") / "metrics.jsonl", "st_size")
        processes = world.start(script, "signal-cut", *words, "--resume")
        assert wait_until(seen, 0, processes), log_of("signal-cut").read_text(encoding="utf-8")
        start = time.monotonic()
        os.kill(processes[0], which)
        (code,) = forks.finish(processes)
        slowest, tried = max(slowest, time.monotonic() - start), tried + 1
        bad += [] if code == 128 + which else [f"exit code {code}"]
    world.whole(script, "signal-cut", *words, "--resume")
    bad += [] if world.same("signal-whole", "signal-cut") else ["lad"]
    return Outcome("SIGTERM and Ctrl-C", tried, f"{verdict(bad)}; gone within {slowest:.1f} s")


def appeared(folder: Path, pattern: str) -> Callable[[], bool]:
    """Give a test whether a file was made since; the folder itself may come, go and be replaced meanwhile."""

    def there() -> set[Path]:
        try:
            return set(folder.glob(pattern))
        except FileNotFoundError:
            return set()

    before = there()
    return lambda: bool(there() - before)


def changed(file: Path, what: str = "st_mtime_ns") -> Callable[[], bool]:
    """Give a test whether a file was written since, or whether it has grown: `st_size`."""

    def value() -> int:
        try:
            return int(getattr(file.stat(), what))
        except FileNotFoundError:
            return 0

    before = value()
    return lambda: value() > before


def saves(world: World) -> Outcome:
    """A process that does nothing but save, killed 200 times; after each the newest checkpoint has to load."""
    folder, model = world.root / "saves", torch.nn.Linear(1000, 1000)
    folder.mkdir()
    bad = 0
    for _ in range(200):
        process = os.fork()
        if not process:
            for step in range(max(list_checkpoints(folder), default=0) + 1, 10**6):
                save_checkpoint(folder, step, {"model": model})
        time.sleep(world.draw.uniform(0.005, 0.05))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        steps = list_checkpoints(folder)
        try:
            assert not steps or set(load_state(folder / f"model-{steps[-1]}.pt")) == {"weight", "bias"}
        except (ValueError, AssertionError):
            bad += 1
        for step in steps[:-1]:
            (folder / f"model-{step}.pt").unlink()
    return Outcome(
        "SIGKILL while saving", 200, verdict([f"{bad} damaged"] if bad else [], "the newest checkpoint loads")
    )


def full_disk(world: World) -> Outcome:
    """A disk that states and checkpoints, or log and TensorBoard, fill up; with more room the run goes on."""
    small = world.root / "small"
    small.mkdir()
    if not mount(small, 800):
        return Outcome("full disk", 0, "not tried: mounting a small file system needs root")
    try:
        for name in ("fine_tune", "encoder", "cache"):
            (small / name).symlink_to(world.root / name)
        shutil.copytree(world.folder("teacher"), small / "fine_tune_experiment" / "teacher_bert_sst2")
        script, *words = command("kd", world.encoder)
        words += ["--no_preflight", "--log_step", 1]
        rarely = ["--total_step", 10**4, "--ckpt_step", 10**6, "--state_step", 10**6]
        world.whole(script, "full", *words, "--ckpt_step", 1)
        other, bad = copy.copy(world), []
        other.root = small
        for name, more in (("full-log", rarely), ("full", ["--ckpt_step", 1])):
            (code,) = forks.finish(other.start(script, name, *words, *more))
            told = log_of(name).read_text(encoding="utf-8").strip().splitlines()[-1]
            for step in list_checkpoints(other.folder(name)):
                load_state(other.folder(name) / f"model-{step}.pt")
            torch.load(other.folder(name) / STATE, weights_only=True)
            bad += [] if code == 1 and "stopped at update " in told and "--resume" in told else [f"{code}: {told}"]
            if name == "full-log":
                shutil.rmtree(other.folder(name))
                shutil.rmtree(small / "fine_tune_experiment" / "log")
        mount(small, 64_000, REMOUNT)
        other.whole(script, "full", *words, "--ckpt_step", 1, "--resume")
        world.folder("full-mended").symlink_to(other.folder("full"))
        bad += [] if world.same("full", "full-mended") else ["kd"]
        return Outcome("full disk", 2, verdict(bad, "one line that says so, all files load; with room it goes on"))
    finally:
        ctypes.CDLL(None).umount(str(small).encode())


REMOUNT = 32
"""Linux's MS_REMOUNT."""


def mount(folder: Path, kilobytes: int, how: int = 0) -> bool:
    """Put a small file system in a folder, or change its size; whether that is allowed."""
    size = f"size={kilobytes}k".encode()
    return bool(ctypes.CDLL(None).mount(b"tmpfs", str(folder).encode(), b"tmpfs", how, size) == 0)


def verdict(bad: Sequence[str], good: str = "same weights and log as an uninterrupted run, to the last bit") -> str:
    """Say what came out."""
    return f"FAILED: {', '.join(bad)}" if bad else good


FAULTS = (kills_at_random, kills_of_two, kills_while_saving, kills_while_caching, signals, saves, full_disk)


def main() -> None:
    """Try every fault; exit with 1 if one is not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file whose table is replaced")
    parser.add_argument("--only", help="name of one fault")
    args = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root))
        try:
            for fault in FAULTS:
                if args.only in (None, fault.__name__):
                    start = time.monotonic()
                    outcomes.append(fault(world))
                    print(*outcomes[-1], f"({time.monotonic() - start:.0f} s)", sep=" | ", flush=True)
        finally:
            world.end()
    lines = ["| fault | tried | result |", "|---|---|---|"]
    lines += [f"| {outcome.fault} | {outcome.tried} | {outcome.result} |" for outcome in outcomes]
    if args.out:
        text = args.out.read_text(encoding="utf-8")
        before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
        table = "\n".join([MARKS[0], "", *lines, "", MARKS[1]])
        args.out.write_text(before + table + after, encoding="utf-8")
    sys.exit(any("FAILED" in outcome.result for outcome in outcomes))


if __name__ == "__main__":
    main()
