#!/usr/bin/env python3
"""What OpenMP's waiting threads cost a LAD run: alone, beside a second run, beside a busy process; ms per update.

    python benchmarks/bench_threads.py --encoder FOLDER

Training is `run_lad_distil.py` on the generated corpus in processes of their own, each with a setting of GNU OpenMP in
its environment and a number of threads. One process trains alone, then beside a process that only counts, then (that
one ended) beside a second process like itself. The settings take turns within each number of threads, and all is done
`--rounds` times. The number is the median over a window's updates, of both processes of a pair, all rounds together;
behind it the lowest and highest mean of one process in one window. With one thread nobody waits: there the default
and the first other setting are measured, which should not differ. The last line is JSON. About 6 minutes a round on 2
cores.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import run_lad_distil
from benchmarks.common import UNDISTURBED, command_line, make_teacher, own_data_dir, ticking
from fine_tune.path import task_dir
from fine_tune.tasks.sample_corpus import write_corpus

SETTINGS = ["default", "GOMP_SPINCOUNT=100", "GOMP_SPINCOUNT=1000", "GOMP_SPINCOUNT=10000", "OMP_WAIT_POLICY=PASSIVE"]
SITUATIONS = ["alone", "beside a busy process", "a pair"]
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of which only those under test may stand in a worker's environment."""
WARM_UP = 5


def work(args: argparse.Namespace) -> None:
    """Train in this process until killed; print the time after every update."""

    def tick() -> bool:
        print(time.monotonic(), file=sys.__stdout__, flush=True)
        return False

    with ticking(tick):
        run_lad_distil.main(["--experiment", f"LAD_{os.getpid()}", "--teacher_exp", "teacher", *args.flags])


class Worker:
    """A training process; `times` grows with every update. Use as a context manager: it is killed in the end."""

    def __init__(self, setting: str, threads: int, flags: list[str]) -> None:
        env = {name: value for name, value in os.environ.items() if name not in CHOSEN}
        env |= {} if setting == "default" else [setting.split("=")]
        env |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
        command = [sys.executable, __file__, "--encoder", "-", "--worker", "--flags", *flags]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.times: list[float] = []
        threading.Thread(target=self.read, daemon=True).start()
        while len(self.times) < WARM_UP:
            if self.process.poll() is not None:
                sys.exit(f"a worker ended with exit code {self.process.returncode} ({setting}, {threads} threads)")
            time.sleep(0.1)

    def read(self) -> None:
        """Note the times, in a thread."""
        assert self.process.stdout
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                self.times.append(float(line))

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def steps(self, start: float) -> list[float]:
        """Give the durations of the updates, in ms, that began after `start` and are over."""
        times = [when for when in self.times if when >= start]
        return [1000 * (later - when) for when, later in zip(times, times[1:], strict=False)]


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def watch(seconds: float, *workers: Worker) -> list[list[float]]:
    """Let the workers train for a while, longer where an update takes long; give their updates in that time."""
    start = time.monotonic()
    time.sleep(seconds)
    while min(len(worker.steps(start)) for worker in workers) < 2:
        time.sleep(0.1)
    return [worker.steps(start) for worker in workers]


def measure(setting: str, threads: int, args: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Measure a setting in every situation: per process the durations of its updates."""
    with Worker(setting, threads, args.flags) as first:
        found = {SITUATIONS[0]: watch(args.seconds, first)}
        with busy():
            found[SITUATIONS[1]] = watch(args.seconds, first)
        with Worker(setting, threads, args.flags) as second:
            found[SITUATIONS[2]] = watch(args.seconds, first, second)
    return found


def main() -> None:
    """Measure everything in turns, and print."""
    parser = command_line(__doc__, "precision")
    parser.add_argument("--rounds", type=int, default=2, help="times to measure everything (default: 2)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a window (default: 5)")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, help="what to set (default: %(default)s)")
    parser.add_argument("--threads", nargs="+", type=int, default=[0, 1, 4], help="0: not set (default: 0 1 4)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--flags", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args)
    cells: dict[str, dict[str, list[list[float]]]] = {}
    args.max_seq_len = 128
    args.flags = ["--task", "sample", "--precision", args.precision, *UNDISTURBED, "--total_step", "1000000"]
    with own_data_dir() as folder:
        (folder / "fine_tune").unlink()
        write_corpus(task_dir("SAMPLE"))
        make_teacher(args, "--task", "sample")
        for _ in range(args.rounds):
            for threads in args.threads:
                for setting in args.settings[:2] if threads == 1 else args.settings:
                    cell = cells.setdefault(f"{threads or 'unset'}, {setting}", {name: [] for name in SITUATIONS})
                    for name, updates in measure(setting, threads, args).items():
                        cell[name] += updates
                    print(".", end="", file=sys.stderr, flush=True)
    print(f"\n| threads, setting | {' | '.join(SITUATIONS)} |\n|{'---|' * (1 + len(SITUATIONS))}")
    report = {}
    for name, cell in cells.items():
        shown = []
        for situation in SITUATIONS:
            middle = statistics.median(step for updates in cell[situation] for step in updates)
            means = [statistics.mean(updates) for updates in cell[situation]]
            shown.append(f"{middle:.0f} ({min(means):.0f} to {max(means):.0f})")
            report[f"{name}, {situation}"] = round(middle, 1)
        print(f"| {name} | {' | '.join(shown)} |")
    print(json.dumps({"cores": os.cpu_count(), "precision": args.precision, "ms": report}))


if __name__ == "__main__":
    main()
