"""GLUE's submission: one zip of eleven tables of test predictions, collected from runs, and checked before GLUE does.

A table is `index<TAB>prediction` in UTF-8, then a line for every test row, in order, with the label as the training
file writes it, or for STS-B a number of 0 to 5. All eleven must be there, WNLI and the diagnostic set AX too; all stand
at the top of the zip, with nothing beside them.

Source of names and format: https://gluebenchmark.com/faq. Of the numbers of rows: GLUE's archives for CoLA, SST-2, QNLI
and STS-B; GLUE's dataset card, https://huggingface.co/datasets/nyu-mll/glue, for the others.
"""

import contextlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fine_tune.files import first_line, write_whole
from fine_tune.path import architecture_of, run_dir
from fine_tune.tasks.named import task_named
from fine_tune.tasks.table import BINARY, NLI, TASKS, Task

HEADER = "index\tprediction"
ROWS = {
    "CoLA.tsv": 1_063, "SST-2.tsv": 1_821, "MRPC.tsv": 1_725, "STS-B.tsv": 1_379, "MNLI-m.tsv": 9_796,
    "MNLI-mm.tsv": 9_847, "QNLI.tsv": 5_463, "QQP.tsv": 390_965, "RTE.tsv": 3_000, "WNLI.tsv": 146, "AX.tsv": 1_104,
}  # fmt: skip
"""The files that GLUE wants, and the rows of each."""
WANTED = ", ".join(ROWS)
LABELS = {name: task.labels for task in TASKS.values() for _, name in task.submission if name in ROWS}
LABELS |= {"WNLI.tsv": BINARY, "AX.tsv": NLI}
"""What may be predicted in each; of a regression, which has no labels, a number within SCORES."""
SCORES = TASKS["stsb"].score_range
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
ROW_SIZE = 64
"""Bytes that no honest row exceeds."""
LARGEST = ROW_SIZE * sum(ROWS.values())
"""Bytes that no honest zip exceeds."""
SHOWN = 40
"""Characters of a wrong value that are shown."""


class Collected(NamedTuple):
    """What goes into a zip.

    Attributes:
        tables: Content of each file, by its name.
        origin: Where each is from, in words.
    """

    tables: dict[str, bytes]
    origin: dict[str, str]


def collect(experiment: str, model: str | None, tasks: Sequence[str], fill: bool = False) -> Collected:
    """Gather the predictions that runs have written.

    Args:
        experiment: Name of the runs.
        model: Their architecture; None finds it by their folders.
        tasks: Names of their tasks.
        fill: Add a constant prediction for every other file.

    Raises:
        ValueError: A task is not GLUE's; a file is missing, and is not to be filled.
        OSError: A run has no predictions.
    """
    tables, origin = {}, {}
    for task in dict.fromkeys(map(glue_task, tasks)):
        architecture = model or architecture_of(experiment, task.name)
        for split, name in task.submission:
            if not (file := run_dir(experiment, architecture, task.name) / name).is_file():
                ask = f"--experiment {experiment} --model {architecture} --task {task.name} --dataset {split}"
                raise FileNotFoundError(f"{file} is not there; write it with: python generate_test_prediction.py {ask}")
            tables[name], origin[name] = file.read_bytes(), str(file)
    missing = [name for name in ROWS if name not in tables]
    if missing and not fill:
        raise ValueError(f"GLUE wants {', '.join(missing)} too: name more --tasks, or --fill them with constants")
    for name in missing:
        tables[name] = constant(name)
        origin[name] = f"NO RUN: all predictions are {constant_word(name)}; no model's score"
    return Collected({name: tables[name] for name in ROWS}, {name: origin[name] for name in ROWS})


def glue_task(name: str) -> Task:
    """Find a task whose predictions GLUE takes.

    Raises:
        ValueError: There is none of this name.
    """
    known = [task.name for task in TASKS.values() if any(file in ROWS for _, file in task.submission)]
    with contextlib.suppress(ValueError):
        if (task := task_named(name.strip())).name in known:
            return task
    told = f"GLUE takes {', '.join(known)}; WNLI and AX have no runs, --fill writes them; BoolQ is SuperGLUE's"
    raise ValueError(f"--tasks {name!r}: {told}")


def constant_word(name: str) -> str:
    """Give what a filled file says of every row: the first class, or the least score."""
    return LABELS[name][0] if LABELS[name] else f"{SCORES[0]:.3f}"


def constant(name: str) -> bytes:
    """Make a table that says the same of every row."""
    word = constant_word(name)
    return "".join([f"{HEADER}\n", *(f"{row}\t{word}\n" for row in range(ROWS[name]))]).encode()


def write_submission(file: Path, tables: dict[str, bytes], overwrite: bool = False) -> None:
    """Write tables as a zip, once it has passed `check_submission`; the same tables make the same bytes.

    Raises:
        ValueError: A table is not what GLUE takes.
        OSError: The file is there, or cannot be written.
    """
    if file.is_dir() or (file.exists() and not overwrite):
        raise FileExistsError(f"--out {file} exists; name another file, or pass --overwrite to replace a file")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in tables.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # dated 1980, whenever it is made
    check_submission(buffer.getvalue(), str(file))
    write_whole(file, lambda part: part.write_bytes(buffer.getvalue()))


def check_file(file: Path) -> None:
    """Refuse a zip that is there, see `check_submission`; nothing of one that is too large is read.

    Raises:
        ValueError: Its first fault.
        OSError: It cannot be read.
    """
    if (size := file.stat().st_size) > LARGEST:
        raise ValueError(
            f"{file}: {size:,} bytes, GLUE's tables take less than {LARGEST:,}; is this the file you mean?"
        )
    check_submission(file.read_bytes(), str(file))


def check_submission(content: bytes, name: str) -> None:
    """Refuse a zip that GLUE would not take, or would score as something else.

    Args:
        content: Its bytes.
        name: What messages call it.

    Raises:
        ValueError: The first fault: archive, file, line, what was found, and what to do.
    """
    with reading(name, "its table of contents"):
        archive = zipfile.ZipFile(io.BytesIO(content))
    members = archive.infolist()
    check_members(members, name)
    for member in members:
        with reading(name, member.filename):
            table = archive.read(member)  # compares the checksum at the end
        check_table(member.filename, table, f"{name}: {member.filename}")


@contextlib.contextmanager
def reading(name: str, where: str) -> Iterator[None]:
    """Turn what a damaged zip raises inside into one line."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        told = f"not a zip, truncated or damaged in {where} ({first_line(error)})"
        raise ValueError(f"{name}: {told}; make it anew, or copy it again") from None


def check_members(members: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Refuse an archive with other files than GLUE's eleven, or with one that unpacks to more than it can be."""
    seen = set()
    for member in members:
        inner = member.filename
        if "/" in inner:
            raise ValueError(f"{name}: {shown(inner)} is a folder or in one; zip the files themselves, with no folder")
        if inner not in ROWS:
            raise ValueError(f"{name}: {shown(inner)} is no file of GLUE's; remove it, or name it as one of {WANTED}")
        if inner in seen:
            raise ValueError(f"{name}: {inner} is there twice; keep the one that is meant")
        seen.add(inner)
        if member.file_size > (most := ROW_SIZE * (ROWS[inner] + 1)):
            told = f"unpacks to {member.file_size:,} bytes, its {ROWS[inner]:,} rows need less than {most:,}"
            raise ValueError(f"{name}: {inner} {told}; make the file anew")
        # Of other methods, a few bytes may unpack to any number before their reader can stop.
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name}: {inner} is encrypted, or packed in an unusual way; use plain zip (deflate)")
    if missing := [inner for inner in ROWS if inner not in seen]:
        raise ValueError(f"{name}: {', '.join(missing)} missing; GLUE wants all of {WANTED}")


def check_table(name: str, content: bytes, where: str) -> None:
    """Refuse a table that GLUE would not take.

    Args:
        name: GLUE's name of it.
        content: Its bytes.
        where: What messages call it.

    Raises:
        ValueError: The first line at fault.
    """
    header, *rows = lines_of(content, where)
    if header != HEADER:
        raise ValueError(f"{where}:1: the header is {shown(header)}; it must be {HEADER!r}")
    for index, row in enumerate(rows):
        line = f"{where}:{index + 2}"
        cells = row.split("\t")
        if len(cells) != 2:
            told = f"{shown(row)} has {len(cells)} columns" if row else "a blank line"
            raise ValueError(f"{line}: {told}; write {HEADER!r} for every row, and nothing else")
        if index >= ROWS[name]:
            raise ValueError(f"{line}: more than the {ROWS[name]:,} rows of GLUE's test split; predict that split")
        if cells[0] != str(index):
            raise ValueError(f"{line}: {index_fault(index, cells[0], rows)}")
        if fault := word_fault(name, cells[1]):
            raise ValueError(f"{line}: {fault}")
    if len(rows) < ROWS[name]:
        told = f"{len(rows):,} rows, GLUE's test split has {ROWS[name]:,}"
        raise ValueError(f"{where}:{len(rows) + 1}: it ends after {told}; predict all of that split")


def lines_of(content: bytes, where: str) -> list[str]:
    """Cut a table into lines, the last with or without its end; there is at least one."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{where}:{line}: not UTF-8 ({error.reason}); save it in UTF-8") from None
    if text.startswith("\ufeff"):
        raise ValueError(f"{where}:1: a byte order mark before the header; save it in UTF-8 without one")
    if "\r" in text:
        line = text[: text.index("\r")].count("\n") + 1
        raise ValueError(f"{where}:{line}: a carriage return; end lines as Unix does, with a line feed alone")
    return text.removesuffix("\n").split("\n")


def index_fault(index: int, found: str, rows: Sequence[str]) -> str:
    """Say what is wrong with an index that is not the row's number; all before it are right."""
    if any(row.startswith(f"{found}\t") for row in rows[:index]):
        return f"index {shown(found)} is there twice; keep one row of each index"
    if any(row.startswith(f"{index}\t") for row in rows):
        return f"index {shown(found)} stands where {index} belongs; sort the rows by their index"
    return f"index {index} is missing, {shown(found)} stands there; write every index, from 0 on"


def word_fault(name: str, word: str) -> str:
    """Say what is wrong with a prediction; "" if nothing is."""
    if (labels := LABELS[name]) and word not in labels:
        return f"{shown(word)} is no label of this task; write one of {', '.join(labels)}"
    if not labels and not (NUMBER.fullmatch(word) and SCORES[0] <= float(word) <= SCORES[1]):
        return f"{shown(word)} is no score; write a number of {SCORES[0]:g} to {SCORES[1]:g}"
    return ""


def shown(value: str) -> str:
    """Quote a wrong value, cut where it is long."""
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}..")
