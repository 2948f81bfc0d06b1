"""Make the runs that a suite lacks, one or several at a time, each in a process of its own.

A run's folder says what it was made with, so a suite needs no state: started again, it makes what is still missing.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from fine_tune.compare.suite import Run, Suite, read_if_there, script_parser
from fine_tune.files import digest, take, write_json
from fine_tune.flags.saved import is_neutral
from fine_tune.hardware.host import cores, heard
from fine_tune.path import PROJECT
from fine_tune.run.state import STATE
from fine_tune.train.methods import Method

LOGGED = {"log_step", "gradient_checkpointing"}
"""Flags that a run must keep when it is resumed."""
UNASKED = LOGGED | {"experiment", "from_config"}
"""Flags that may differ between what a finished run was made with and what is asked, beside the neutral ones."""


@contextlib.contextmanager
def locked(suite: Suite, argv: Sequence[str]) -> Iterator[int]:
    """Lock a suite for this process and the runs that it starts; they hold the lock as long as they live.

    Raises:
        BlockingIOError: Another process has it.
        ValueError: It is of another task.
    """
    suite.folder.mkdir(parents=True, exist_ok=True)
    with (suite.folder / ".lock").open("w") as file:
        try:
            take(file, suite.folder)
        except BlockingIOError:
            what = "is in use, by another run_suite.py or by a run that one left behind; wait for it, or end it"
            raise BlockingIOError(f"{suite.folder} {what}") from None
        about = suite.folder / "suite.json"
        task = read_if_there(about).get("task", suite.task.name)
        if task != suite.task.name:
            raise ValueError(f"--suite {suite.name} is a comparison on {task}; choose another name")
        write_json(about, {"task": task, "argv": list(argv)})
        ends = heard(signal.SIGTERM, signal.SIGHUP)  # no run outlives a suite that is ended
        before = {which: signal.signal(which, signal.default_int_handler) for which in ends}
        try:
            yield file.fileno()
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)


def how_far(run: Run, overwrite: bool) -> str:
    """Say how far the run that is asked for has come: `finished`, `begun`, or `missing`.

    Raises:
        ValueError: It was made with something else, and may not be replaced.
    """
    if not (run.folder / "config.json").is_file():
        return "missing"  # if there is a folder all the same, the script does not touch it
    config, about = read_if_there(run.folder / "config.json"), read_if_there(run.folder / "run.json")
    if not about.get("argv"):
        if overwrite:
            return "missing"
        raise ValueError(
            f"{run.folder} has no run.json with its command, so it may be another's; move it, or pass --overwrite"
        )
    made = read_command(run.row.method, about["argv"])
    if "teacher_sha256" in about:
        made["teacher_sha256"] = about["teacher_sha256"]
    parts = {
        file.name.removesuffix("config.json") + key: value
        for file in run.folder.glob("*_config.json")
        for key, value in read_if_there(file).items()
    }
    for key in sorted(run.asked.keys() - UNASKED, key=lambda key: (key != "script", key)):
        if is_neutral(key):
            continue
        asked, was = run.asked[key], made.get(key, run.asked[key])
        if asked is not None and key != "layer_map":  # which config.json holds in numbers
            was = (parts | config).get(key, was)
        if was != asked:
            if overwrite:
                return "missing"
            now = "left open" if asked is None else asked
            raise ValueError(
                f"row {run.row.name}, seed {run.seed}: {run.folder} was made with {key} {was}, now it is {now}; "
                "choose another --suite, or pass --overwrite to replace such runs"
            )
    if about.get("end"):
        return "finished"
    same = all(config.get(key) == run.asked[key] for key in LOGGED & run.asked.keys())
    return "begun" if same and (run.folder / STATE).is_file() else "missing"


def reached(run: Run, runs: Sequence[Run], overwrite: bool) -> str:
    """Say how far a run has come, see `how_far`; nowhere if the one that it goes on from is another now.

    Raises:
        ValueError: It was made with, or after, something else, and may not be replaced.
    """
    far = how_far(run, overwrite)
    earlier = next((other for other in runs if (other.row.name, other.seed) == (run.row.after, run.seed)), None)
    if far == "missing" or not earlier or (reached(earlier, runs, overwrite) == "finished" and is_after(run, earlier)):
        return far
    if not overwrite:
        what = f"{run.folder} was made after a run {earlier.experiment} that is not there any more"
        raise ValueError(f"{what}; choose another --suite, or pass --overwrite to make it anew")
    return "missing"


def is_after(run: Run, earlier: Run) -> bool:
    """Whether a run began with the last checkpoint of another, or learns what that says."""
    last, about = digest(earlier.folder / f"model-{earlier.last_step}.pt"), read_if_there(run.folder / "run.json")
    said = read_if_there(earlier.folder / f"{run.asked['task']}-distill.json")
    return bool(last == about.get("source_sha256", said.get("checkpoint_sha256")))


def read_command(method: Method, argv: Sequence[str]) -> dict[str, Any]:
    """Read what a run was asked for."""
    script = Path(argv[0]).stem
    if script != method.script:
        return {"script": script}
    return {**vars(script_parser(method).parse_args(argv[1:])), "script": script}


def make(suite: Suite, runs: Sequence[Run], lock: int) -> None:
    """Train what is missing.

    Raises:
        ValueError: A run was made with something else.
        ChildProcessError: A run failed.
    """
    missing = [(run, far) for run in runs if (far := reached(run, runs, suite.overwrite)) != "finished"]
    if missing and suite.report_only:
        name = missing[0][0].experiment
        raise ValueError(f"{name} is not finished; leave out --report_only to make what is missing")
    begun: dict[tuple[str, ...], Future[None]] = {}

    def after(jobs: Sequence[Future[None]], script: str, words: list[str], name: str, what: str) -> None:
        for job in jobs:
            job.result()
        call(suite, script, words, name, what, lock)

    with workers(suite.jobs) as pool:
        for number, (run, far) in enumerate(missing, start=len(runs) - len(missing) + 1):
            # What a job waits for was handed in before it, so it has begun, and no worker waits for another in vain.
            earlier = [begun[key] for key in [(run.row.after, str(run.seed))] if key in begun]
            for script, own in run.files:
                if (script, *own) not in begun:
                    begun[script, *own] = pool.submit(
                        after, earlier, script, own, f"{run.experiment}-{script}", "outputs"
                    )
            read = [begun[script, *own] for script, own in run.files]
            words = [*run.words, "--resume" if far == "begun" and not suite.overwrite else "--overwrite"]
            begun[run.row.name, str(run.seed)] = pool.submit(
                after, earlier + read, run.row.method.script, words, run.experiment, f"run {number} of {len(runs)}"
            )
        wait(begun.values(), return_when=FIRST_EXCEPTION)
        for job in begun.values():
            if job.done():
                job.result()


RUNNING: set[subprocess.Popen[bytes]] = set()
"""The processes of this one."""


class AtOnce(Executor):
    """Does what it is given when it is given it."""

    def submit(self, job: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Do a job; what it raises is raised here."""
        done: Future[Any] = Future()
        done.set_result(job(*args, **named))
        return done


@contextlib.contextmanager
def workers(count: int) -> Iterator[Executor]:
    """Give what has jobs done, so many at a time; where one fails, or the suite is ended, all save and end."""
    pool = AtOnce() if count == 1 else ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(RUNNING):
            process.terminate()  # it saves its state
        pool.shutdown()
        raise
    pool.shutdown()


def call(suite: Suite, script: str, words: Sequence[str], name: str, what: str, lock: int) -> None:
    """Run a script in a process of its own, its output in `NAME.log`, one line about it here.

    Raises:
        ChildProcessError: It failed; with its last line.
    """
    log, start = suite.folder / f"{name.removeprefix(suite.name + '-')}.log", time.monotonic()
    alone = suite.jobs == 1
    if alone:
        print(f"{what}: {name} ..", end=" ", flush=True)
    with log.open("wb") as out:
        command = [sys.executable, str(PROJECT / f"{script}.py"), *words]
        options: dict[str, Any] = {"stdout": out, "stderr": subprocess.STDOUT, "env": share_of_cores(suite.jobs)}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[lock], **options)
        RUNNING.add(process)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        finally:
            RUNNING.discard(process)
    before = "" if alone else f"{what}: {name} .. "
    if code:
        stopped = code in (128 + signal.SIGTERM, -signal.SIGTERM)
        print(f"{before}{'stopped' if stopped else 'failed'}", flush=True)
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ChildProcessError(f"{name} failed: {' '.join(last) or f'exit code {code}'} (log: {log})")
    print(f"{before}{time.monotonic() - start:.0f} s", flush=True)


def share_of_cores(jobs: int) -> dict[str, str]:
    """Give the environment of one of several processes: unless the user says how many, its share of threads."""
    share = {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}
    return share | dict(os.environ)
