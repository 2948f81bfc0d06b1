"""Kills runs in every way, goes on with them, and compares: `make torture` writes the table of doc/reliability.md.

    python tests/torture.py --out doc/reliability_table.md

Real scripts on tiny models: this process imports everything once, every run is a fork of it, killed from outside.
"""

import argparse
import ctypes
import importlib
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import conftest  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from methods import METHODS, flags  # noqa: E402

from fine_tune.checkpoint import list_checkpoints, load_state, save_checkpoint  # noqa: E402
from fine_tune.snapshot import STATE  # noqa: E402

STEPS, KILLS = 24, 5
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
        conftest.write_task(root, "sst2", train=24)
        self.encoder = conftest.make_encoder(root / "encoder", transformers.BertConfig(**conftest.SIZES))
        self.finish(self.start("run_fine_tune", "teacher", *BASE, "--ptrain_ver", self.encoder, "--max_seq_len", 24))

    def folder(self, experiment: str) -> Path:
        """Folder of a run."""
        return self.root / "fine_tune_experiment" / f"{experiment}_bert_sst2"

    def start(self, script: str, experiment: str, *words: Any, ranks: int = 1) -> list[int]:
        """Start a run in forks of this process; gives their ids."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        argv = ["--experiment", experiment, *map(str, words)]
        return [fork(self.root, script, argv, rank, ranks, port) for rank in range(ranks)]

    def finish(self, processes: Sequence[int]) -> list[int]:
        """Wait for a run; gives the exit codes."""
        return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]

    def whole(self, script: str, experiment: str, *words: Any, ranks: int = 1) -> float:
        """Make a run without any fault; gives its seconds."""
        start = time.monotonic()
        assert set(self.finish(self.start(script, experiment, *words, ranks=ranks))) == {0}, (script, words)
        return time.monotonic() - start

    def cut(self, script: str, experiment: str, *words: Any, ranks: int, within: float, when: Any = None) -> int:
        """Kill a run at random moments, or when something is seen, and go on until it ends; counts the kills."""
        kills = 0
        while True:
            processes = self.start(script, experiment, *words, "--resume", ranks=ranks)
            if kills < KILLS and wait_until(when, self.draw.uniform(0.2, within), processes):
                for process in processes:
                    os.kill(process, signal.SIGKILL)
                kills += 1
                self.finish(processes)
                continue
            assert set(self.finish(processes)) == {0}, (script, experiment)
            return kills

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


def fork(root: Path, script: str, argv: list[str], rank: int, ranks: int, port: str) -> int:
    """Run a script's main in a fork."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.environ |= {"DATA_DIR": str(root), "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # no fork outlives this process
        quiet = os.open(log_of(argv[1]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        importlib.import_module(script).main(argv)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        print(end.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def log_of(experiment: str) -> Path:
    """File of what a run says; not on the disk that is full."""
    return Path(LOGS.name) / f"{experiment}.log"


def wait_until(when: Callable[[], bool] | None, seconds: float, processes: Sequence[int]) -> bool:
    """Wait for a moment, or for something to be seen; whether the run was still there then."""
    end = time.monotonic() + (seconds if when is None else 30)
    while time.monotonic() < end and not (when and when()):
        if any(os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) for process in processes):
            return False
        time.sleep(0.002 if when is None else 0)
    return True


def command(name: str, encoder: str) -> tuple[Any, ...]:
    """Script and flags of a run."""
    if name == "run_fine_tune":
        return ("run_fine_tune", *BASE, "--ptrain_ver", encoder, "--max_seq_len", 24)
    if name == "run_student_fine_tune":
        return ("run_student_fine_tune", *TAUGHT)
    return flags(name, *TAUGHT, gate={"lr": 1e-3})


def kills_at_random(world: World) -> Outcome:
    """Every method, in one process."""
    tried, bad = 0, []
    for name in (*METHODS, "run_student_fine_tune", "run_fine_tune"):
        script, *words = command(name, world.encoder)
        seconds = world.whole(script, f"whole-{name}", *words)
        tried += world.cut(script, f"cut-{name}", *words, ranks=1, within=seconds)
        bad += [] if world.same(f"whole-{name}", f"cut-{name}") else [name]
    return Outcome("SIGKILL at random moments, every method", tried, verdict(bad))


def kills_of_two(world: World) -> Outcome:
    """Two processes."""
    tried, bad = 0, []
    for name in ("lad", "pkd-hidden", "kd", "run_fine_tune"):
        script, *words = command(name, world.encoder)
        seconds = world.whole(script, f"two-whole-{name}", *words, ranks=2)
        tried += world.cut(script, f"two-cut-{name}", *words, ranks=2, within=seconds)
        bad += [] if world.same(f"two-whole-{name}", f"two-cut-{name}") else [name]
    return Outcome("SIGKILL at random moments, two processes", tried, verdict(bad))


def kills_while_saving(world: World) -> Outcome:
    """Whenever the temporary file of a state or a checkpoint is there."""
    script, *words = command("lad", world.encoder)
    world.whole(script, "save-whole", *words)
    tried, bad = 0, []
    for pattern in (f".{STATE}.part", ".model-*.part", ".gate-*.part"):
        name = f"save-cut-{pattern.strip('.*').split('-')[0].split('.')[0]}"
        folder = world.folder(name)
        seen = lambda folder=folder, pattern=pattern: any(folder.glob(pattern))  # noqa: E731
        tried += world.cut(script, name, *words, ranks=1, within=0, when=seen)
        bad += [] if world.same("save-whole", name) else [pattern]
    return Outcome("SIGKILL while a state or a checkpoint is written", tried, verdict(bad))


def kills_while_caching(world: World) -> Outcome:
    """While the teacher's outputs are being written."""
    script, *words = command("lad", world.encoder)
    words += ["--teacher_cache", "states"]
    shutil.rmtree(world.root / "cache", ignore_errors=True)
    seen = lambda: any((world.root / "cache").glob(".teacher-*"))  # noqa: E731
    tried = world.cut(script, "cache-cut", *words, ranks=1, within=0, when=seen)
    world.whole(script, "cache-whole", *words)
    bad = [] if world.same("cache-whole", "cache-cut") else ["lad"]
    return Outcome("SIGKILL while a teacher's cache is written", tried, verdict(bad))


def signals(world: World) -> Outcome:
    """SIGTERM and Ctrl-C: seconds until the run is gone, and its exit code."""
    script, *words = command("lad", world.encoder)
    seconds = world.whole(script, "signal-whole", *words)
    slowest, bad, tried = 0.0, [], 0
    for number in range(10):
        which = (signal.SIGTERM, signal.SIGINT)[number % 2]
        processes = world.start(script, "signal-cut", *words, "--resume")
        if not wait_until(changed(world.folder("signal-cut") / STATE), seconds, processes):
            break
        start = time.monotonic()
        os.kill(processes[0], which)
        (code,) = world.finish(processes)
        slowest, tried = max(slowest, time.monotonic() - start), tried + 1
        if code == 0:
            break  # it had ended by then
        bad += [] if code == 128 + which else [f"exit code {code}"]
    world.cut(script, "signal-cut", *words, ranks=1, within=0.0, when=lambda: False)
    bad += [] if world.same("signal-whole", "signal-cut") else ["lad"]
    return Outcome("SIGTERM and Ctrl-C", tried, f"{verdict(bad)}; gone within {slowest:.1f} s")


def changed(file: Path) -> Callable[[], bool]:
    """Give a test whether a file was written since."""

    def when() -> float:
        return file.stat().st_mtime if file.is_file() else 0.0

    before = when()
    return lambda: when() > before


def saves(world: World) -> Outcome:
    """A process that does nothing but save, killed 200 times; after each the newest checkpoint has to load."""
    folder, model = world.root / "saves", torch.nn.Linear(1000, 1000)
    folder.mkdir()
    bad = 0
    for _ in range(200):
        process = os.fork()
        if not process:
            for step in range(max(list_checkpoints(folder), default=0) + 1, 10**6):
                save_checkpoint(folder, step, model)
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
    return Outcome("SIGKILL at random moments of saving", 200, verdict([f"{bad} damaged"] if bad else []))


def full_disk(world: World) -> Outcome:
    """A disk with room for a run's first states only."""
    small = world.root / "small"
    small.mkdir()
    mounted = ctypes.CDLL(None).mount(b"tmpfs", str(small).encode(), b"tmpfs", 0, b"size=1m") == 0
    if not mounted:
        return Outcome("full disk", 0, "not tried: mounting a small file system needs root")
    try:
        for name in ("fine_tune", "encoder"):
            (small / name).symlink_to(world.root / name)
        (small / "cache").symlink_to(world.root / "cache")
        shutil.copytree(world.folder("teacher"), small / "fine_tune_experiment" / "teacher_bert_sst2")
        script, *words = command("kd", world.encoder)
        words += ["--ckpt_step", 1, "--no_preflight"]
        other = World.__new__(World)
        other.root, other.draw = small, world.draw
        (code,) = other.finish(other.start(script, "full", *words))
        told = "could not be written" in log_of("full").read_text(encoding="utf-8")
        steps = list_checkpoints(other.folder("full"))
        for step in steps:
            load_state(other.folder("full") / f"model-{step}.pt")
        torch.load(other.folder("full") / STATE, weights_only=True)
        bad = [] if code == 1 and told and steps else [f"exit code {code}, told: {told}, checkpoints: {len(steps)}"]
        return Outcome("full disk", 1, verdict(bad, "a message, and state and checkpoints load"))
    finally:
        ctypes.CDLL(None).umount(str(small).encode())


def verdict(bad: Sequence[str], good: str = "weights and log as without, to the last bit") -> str:
    """Say what came out."""
    return f"FAILED: {', '.join(bad)}" if bad else good


FAULTS = (kills_at_random, kills_of_two, kills_while_saving, kills_while_caching, signals, saves, full_disk)


def main() -> None:
    """Try every fault; exit with 1 if one is not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--only", help="name of one fault")
    args = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root))
        for fault in FAULTS:
            if args.only in (None, fault.__name__):
                start = time.monotonic()
                outcomes.append(fault(world))
                print(*outcomes[-1], f"({time.monotonic() - start:.0f} s)", sep=" | ", flush=True)
    lines = ["| fault | tried | result |", "|---|---|---|"]
    lines += [f"| {outcome.fault} | {outcome.tried} | {outcome.result} |" for outcome in outcomes]
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(any("FAILED" in outcome.result for outcome in outcomes))


if __name__ == "__main__":
    main()
