"""Files: written whole or not at all; folders locked; JSON read and written."""

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fine_tune.hardware.rank import is_main

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)

LFS = b"version https://git-lfs"
"""How the pointers begin that git leaves where git-lfs is not installed."""


def existing(folder: Path) -> Path:
    """Find the nearest parent folder that exists."""
    return next(parent for parent in folder.parents if parent.is_dir())


def write_whole(file: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` fill a temporary file beside `file`, then rename it to `file`; only the first process does.

    Raises:
        OSError: It cannot be written, say because the disk is full; an older file of that name is kept.
    """
    if not is_main():
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        write(temporary)
        sync(temporary)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if not isinstance(error, (OSError, RuntimeError)):  # torch.save raises the latter where a disk is full
            raise
        free = shutil.disk_usage(existing(file)).free
        raise OSError(f"{file} could not be written, with {free / 1e9:.2f} GB left there: {error}") from None
    os.replace(temporary, file)
    sync(file.parent)


def fill_folder(folder: Path, fill: Callable[[Path], Any], go_on: bool = False) -> None:
    """Have `fill` fill a hidden folder, then rename it to `folder`; if another process fills it, wait for that one.

    Args:
        folder: The folder.
        fill: Fills the one that it is given.
        go_on: It goes on with what an earlier process left there when it was ended; else that is removed.

    Raises:
        OSError: It cannot be written; nothing is left.
    """
    lock(folder, wait=True)
    building = folder.with_name(f".{folder.name}")
    try:
        if not go_on:
            shutil.rmtree(building, ignore_errors=True)
        if not folder.is_dir():
            building.mkdir(exist_ok=go_on)
            fill(building)
            put_in_place(building, folder)
    except BaseException as error:
        if not go_on or isinstance(error, (OSError, ValueError)):
            shutil.rmtree(building, ignore_errors=True)
        raise
    finally:
        unlock(folder)


def replace_folder(folder: Path, fill: Callable[[Path], Any]) -> None:
    """Have `fill` fill a hidden folder, then put it in the place of `folder`; what was there goes last.

    Raises:
        OSError: It cannot be written; what was there is kept.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        building = Path(place) / "new"
        building.mkdir()
        fill(building)
        old = Path(place) / "old"
        if folder.exists():
            folder.rename(old)
        try:
            put_in_place(building, folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise


def put_in_place(building: Path, folder: Path) -> None:
    """Rename a folder to its final name once all of it is on the disk."""
    for path in (*building.rglob("*"), building):
        sync(path)
    building.rename(folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; not all file systems can do the latter."""
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def move(file: Path, target: Path) -> None:
    """Move a file, to another disk too; `target` is replaced in one step."""
    try:
        file.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        write_whole(target, lambda part: shutil.copyfile(file, part))
        file.unlink()


LOCKS: dict[Path, IO[str]] = {}
"""The open lock file of every folder that this process has locked."""


def take(file: IO[str], folder: Path) -> None:
    """Take the system's lock on an open file, which stands for a folder; warn where the file system has no locks.

    Raises:
        BlockingIOError: Another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        logger.warning("%s cannot be locked (%s): let no other process use it", folder, error)


def lock(folder: Path, wait: bool = False) -> None:
    """Reserve a folder, which need not exist yet, for this process; the system drops the lock when the process ends.

    Args:
        folder: What to lock; the lock is a hidden file beside it.
        wait: Wait while another process has it.

    Raises:
        BlockingIOError: Another process has it.
    """
    unlock(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    while folder not in LOCKS:
        file = lock_file(folder).open("a+", encoding="utf-8")
        try:
            take(file, folder)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            if not wait:
                message = f"{folder} is in use by {owner}; wait for it, or choose another --experiment"
                raise BlockingIOError(message) from None
            logger.info("%s is in use by %s: waiting for it", folder, owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock_file(folder).stat()):  # else its owner has removed it
                LOCKS[folder] = file
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    file.flush()


def unlock(folder: Path) -> None:
    """Release a folder if this process holds it, and remove the lock file."""
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


def write_csv(file: Path, table: "pandas.DataFrame") -> None:
    """Write a table without its index, whole or not at all; what is not known is an empty cell."""
    write_text(file, table.to_csv(index=False, lineterminator="\n"))


def write_tsv(file: Path, table: "pandas.DataFrame") -> None:
    """Write a tab-separated table as GLUE's are: without quoting, a quote is a character."""
    options: dict[str, Any] = {"sep": "\t", "quoting": csv.QUOTE_NONE, "na_rep": "nan", "lineterminator": "\n"}
    write_text(file, table.to_csv(index=False, **options))


def markdown(cells: Sequence[Sequence[str]]) -> list[str]:
    """Write cells as the lines of a table in markdown, the first row as its header."""
    header, *rows = cells
    return ["| " + " | ".join(row) + " |" for row in (header, ["-" * max(3, len(cell)) for cell in header], *rows)]


def digest(file: Path) -> str:
    """Hash a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fault(file: Path) -> str:
    """Say what is wrong with a file that is there, whatever it should hold: it is empty, a pointer, not readable."""
    try:
        with file.open("rb") as handle:
            start = handle.read(len(LFS))
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    if start == LFS:
        return f"{file} is a git-lfs pointer, not the file itself; fetch it with: git lfs pull"
    return "" if start else f"{file} is empty"


def first_line(error: Exception) -> str:
    """Cut a library's message down to its first line; the error's name stands in for an empty message."""
    return next(iter(str(error).splitlines()), type(error).__name__)
