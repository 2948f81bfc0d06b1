"""Where data and experiments live, and how a file is written there: whole or not at all.

Importing this module, or asking it for a path, creates nothing on disk.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from fine_tune.hardware.rank import is_main

logger = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent


def data_dir() -> Path:
    """Root of everything read and written: `$DATA_DIR`, else `data/` beside the scripts."""
    return Path(os.environ.get("DATA_DIR") or PROJECT / "data").expanduser().resolve()


def task_dir(folder: str) -> Path:
    """Folder with the files of one task."""
    return data_dir() / "fine_tune" / folder


def cache_dir() -> Path:
    """Folder of the tokenised splits; safe to delete at any time."""
    return data_dir() / "cache"


def experiment_name(experiment: str, model: str, task: str, flag: str = "--experiment") -> str:
    """Join the parts of a run's name, `<experiment>_<model>_<task>`.

    Raises:
        ValueError: The name could leave the experiment folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*", experiment):
        raise ValueError(f"{flag} may hold letters, digits and _ . + = - only, got {experiment!r}")
    return f"{experiment}_{model}_{task}"


def run_dir(experiment: str, model: str, task: str) -> Path:
    """Folder of one run: configuration, checkpoints, scores, predictions."""
    return data_dir() / "fine_tune_experiment" / experiment_name(experiment, model, task)


def log_dir(experiment: str, model: str, task: str) -> Path:
    """TensorBoard folder of one run."""
    return data_dir() / "fine_tune_experiment" / "log" / experiment_name(experiment, model, task)


def suite_dir(name: str) -> Path:
    """Folder of a comparison: its logs and its report."""
    experiment_name(name, "", "", "--suite")
    return data_dir() / "suites" / name


def existing(folder: Path) -> Path:
    """Give the nearest folder above that is there."""
    return next(parent for parent in folder.parents if parent.is_dir())


def write_whole(file: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `file`, then put it in place in one step; in the first process only.

    Raises:
        OSError: It cannot be written, for want of room say; what was there before still is.
    """
    if not is_main():
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        write(temporary)
        sync(temporary)
    except (OSError, RuntimeError) as error:  # torch.save raises the latter where a disk is full
        temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(existing(file)).free
        raise OSError(f"{file} could not be written, with {free / 1e9:.2f} GB left there: {error}") from None
    os.replace(temporary, file)
    sync(file.parent)


def fill_folder(folder: Path, fill: Callable[[Path], Any]) -> None:
    """Let `fill` fill a hidden folder, then put it in place, unless it is there, or another process is filling it.

    Raises:
        OSError: It cannot be written; nothing is left.
    """
    lock(folder, wait=True)
    building = folder.with_name(f".{folder.name}")
    try:
        shutil.rmtree(building, ignore_errors=True)  # a killed process left it
        if not folder.is_dir():
            building.mkdir()
            fill(building)
            put_in_place(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        unlock(folder)


def put_in_place(building: Path, folder: Path) -> None:
    """Give a folder its name in one step, once all of it is on the disk."""
    for path in (*building.rglob("*"), building):
        sync(path)
    building.rename(folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


LOCKS: dict[Path, IO[str]] = {}
"""Open files by the folder that this process has locked."""


def lock(folder: Path, wait: bool = False) -> None:
    """Keep a folder, there or not, for this process until it ends; the lock falls with it, however it ends.

    Args:
        folder: What to lock; the lock is a hidden file beside it.
        wait: Wait for the process that has it.

    Raises:
        BlockingIOError: Another process has it.
    """
    unlock(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    while folder not in LOCKS:
        file = lock_file(folder).open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            if not wait:
                message = f"{folder} is in use by {owner}; wait for it, or choose another --experiment"
                raise BlockingIOError(message) from None
            logger.info("%s is in use by %s: waiting for it", folder, owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            logger.warning("%s cannot be locked (%s): let no other process use it", folder, error)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock_file(folder).stat()):  # else its owner has removed it
                LOCKS[folder] = file
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    file.flush()


def unlock(folder: Path) -> None:
    """Give a folder up, if it is this process's, and leave no trace of its lock."""
    if folder in LOCKS:
        lock_file(folder).unlink(missing_ok=True)
        LOCKS.pop(folder).close()


def lock_file(folder: Path) -> Path:
    """Name the lock of a folder."""
    return folder.with_name(f".{folder.name}.lock")


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: The file holds none.
        OSError: It cannot be read.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not a JSON file: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: expected one JSON object, got {type(values).__name__}")
    return values


def write_json(file: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    write_whole(file, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def digest(file: Path) -> str:
    """Hash a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
