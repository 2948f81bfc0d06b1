"""Make the runs that a suite lacks, one after the other, each in a process of its own.

A run's folder says what it was made with, so a suite needs no state: started again, it makes what is still missing.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fine_tune.compare.suite import Run, Suite, read_if_there, script_parser
from fine_tune.files import digest, take, write_json
from fine_tune.flags.saved import is_neutral
from fine_tune.hardware.host import heard
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
    written: set[tuple[str, ...]] = set()
    for number, (run, far) in enumerate(missing, start=len(runs) - len(missing) + 1):
        for script, own in run.files:
            if (script, *own) not in written:
                call(suite, script, own, f"{run.experiment}-{script}", "outputs", lock)
                written.add((script, *own))
        words = [*run.words, "--resume" if far == "begun" and not suite.overwrite else "--overwrite"]
        call(suite, run.row.method.script, words, run.experiment, f"run {number} of {len(runs)}", lock)


def call(suite: Suite, script: str, words: Sequence[str], name: str, what: str, lock: int) -> None:
    """Run a script in a process of its own, its output in `NAME.log`, one line about it here.

    Raises:
        ChildProcessError: It failed; with its last line.
    """
    log, start = suite.folder / f"{name.removeprefix(suite.name + '-')}.log", time.monotonic()
    print(f"{what}: {name} ..", end=" ", flush=True)
    with log.open("wb") as out:
        command = [sys.executable, str(PROJECT / f"{script}.py"), *words]
        script_output: dict[str, Any] = {"stdout": out, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[lock], **script_output)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # it saves its state
            process.wait()
            raise
    if code:
        print("failed", flush=True)
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ChildProcessError(f"{name} failed: {' '.join(last) or f'exit code {code}'} (log: {log})")
    print(f"{time.monotonic() - start:.0f} s", flush=True)
