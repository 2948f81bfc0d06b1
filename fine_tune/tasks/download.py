"""Official data of the nine tasks: where it is, how it is fetched, and how it gets into the data folder.

`$GLUE_MIRROR`, a folder or an address, takes the place of the official addresses; a file keeps its name there.
Everything is fetched and unpacked in a temporary folder beside the data, then read completely by `read_split`, and only
then moved into place, so the data folder never holds half an archive. Files of the user are never replaced unasked.
"""

import contextlib
import dataclasses
import http.client
import os
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from fine_tune.files import move
from fine_tune.path import expanded, task_dir
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import Task

GLUE = "https://dl.fbaipublicfiles.com/glue/data/"
SENTEVAL = "https://dl.fbaipublicfiles.com/senteval/senteval_data/"
MULTINLI = "https://cims.nyu.edu/~sbowman/multinli/multinli_1.0.zip"
MRPC = (f"{SENTEVAL}msr_paraphrase_train.txt", f"{SENTEVAL}msr_paraphrase_test.txt", f"{GLUE}mrpc_dev_ids.tsv")

SOURCES: dict[str, tuple[tuple[str, ...], ...]] = {
    "sst2": ((f"{GLUE}SST-2.zip",),),
    "qnli": ((f"{GLUE}QNLIv2.zip",),),
    "mnli": ((f"{GLUE}MNLI.zip",), (MULTINLI,)),
    "boolq": (("https://dl.fbaipublicfiles.com/glue/superglue/data/v2/BoolQ.zip",),),
    "mrpc": (MRPC, ("MRPC.zip",)),
    "qqp": ((f"{GLUE}QQP-clean.zip",),),
    "rte": ((f"{GLUE}RTE.zip",),),
    "cola": ((f"{GLUE}CoLA.zip",),),
    "stsb": ((f"{GLUE}STS-B.zip",),),
}
"""Per task the files that make it up, the first choice first; a bare name exists on mirrors only."""

NOTES = ("readme", "license", "note")
NOTE_SIZE = 2**20
TOTAL_SIZE = 2**32
RATIO = 200
"""Bytes of a note at most, bytes unpacked at most, and how many times its packed size a file may unpack to."""

TIMEOUT = 60
SOON = 5.0
"""Seconds."""
HINT = "set GLUE_MIRROR to a folder or an address that has the file"


def prepare(task: Task, overwrite: bool = False) -> tuple[str, dict[str, int]]:
    """Put the official data of `task` in place, unless it is there already.

    Returns:
        Where the data came from, in words, and the number of rows of each split.

    Raises:
        ValueError: The archive or its data is bad, or files of the user are in the way.
        FileNotFoundError: No source has the data.
        OSError: Network or disk fail.
    """
    if task.name not in SOURCES:
        raise ValueError(f"--task {task.name} has no archive; there is one for {', '.join(SOURCES)}")
    if not overwrite and (counts := rows_there(task)):
        return "already there", counts
    task_dir("").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{task.folder}.", dir=task_dir("")) as temporary:
        staging = Path(temporary) / "files"
        staging.mkdir()
        files = fetch(task, Path(temporary))
        source = " + ".join(file.name for file in files)
        target = stage(task, files, staging)
        try:
            # An absolute folder stands for itself, so the task's own reader reads the files before they are in place.
            counts = count_rows(dataclasses.replace(target, folder=str(staging)))
        except ValueError as error:
            raise ValueError(str(error).replace(f"{staging}{os.sep}", f"{source}: ")) from None
        if lacking := missing_splits(task, counts):
            raise ValueError(f"{source} holds no {' and no '.join(f'{split}.{target.suffix}' for split in lacking)}")
        install(staging, task_dir(target.folder), overwrite)
    return f"from {source}", counts


def rows_there(task: Task) -> dict[str, int]:
    """Count the rows of the data in place; nothing at all is fine, half of it is not."""
    task.layout()  # both at once are no case for --overwrite
    try:
        counts = count_rows(task)
    except ValueError as error:
        raise ValueError(f"{error}; fetch the data again with --overwrite") from None
    if counts and (lacking := missing_splits(task, counts)):
        folder = task.file(next(iter(counts))).parent
        raise ValueError(f"{folder} has {', '.join(counts)} but no {', '.join(lacking)}; fetch all with --overwrite")
    return counts


def count_rows(task: Task) -> dict[str, int]:
    """Read every split that is there and count its rows."""
    counts = {}
    for split in task.splits:
        with contextlib.suppress(FileNotFoundError):
            counts[split] = len(read_split(task, split))
    return counts


def missing_splits(task: Task, counts: dict[str, int]) -> list[str]:
    """Name the splits that no task can do without: those to train and to evaluate on."""
    return [split for split in (task.splits[0], *task.dev) if split not in counts]


def fetch(task: Task, folder: Path) -> list[Path]:
    """Get the files of the first source that exists, downloaded into `folder` unless the mirror is a folder."""
    mirror = os.environ.get("GLUE_MIRROR", "")
    problems = []
    for addresses in SOURCES[task.name]:
        if not mirror and "://" not in addresses[0]:
            continue
        try:
            return [locate(address, mirror, folder) for address in addresses]
        except FileNotFoundError as error:
            problems.append(str(error))
    raise FileNotFoundError(f"{'; '.join(problems)}; {HINT}")


def locate(address: str, mirror: str, folder: Path) -> Path:
    """Give the local path of one file, on the mirror if there is one."""
    name = address.rpartition("/")[2]
    if mirror and "://" not in mirror:
        file = expanded(mirror).resolve() / name
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not there")
        return file
    return download(f"{mirror.rstrip('/')}/{name}" if mirror else address, folder / name)


def download(address: str, file: Path) -> Path:
    """Download one file, whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as response, part.open("wb") as out:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=file.name, disable=None) as progress:
                while chunk := response.read(2**16):
                    out.write(chunk)
                    progress.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code in (403, 404, 410):  # a bucket answers 403 for what it does not have
            raise FileNotFoundError(f"{address}: HTTP {error.code} {error.reason}") from None
        raise OSError(f"{address}: HTTP {error.code} {error.reason}; {HINT}") from None
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{address}: {getattr(error, 'reason', None) or error}; {HINT}") from None
    if size and (got := part.stat().st_size) != size:
        raise OSError(f"{address}: truncated, got {got} of {size} bytes; try again, or {HINT}")
    return part.rename(file)


def download_soon(address: str, file: Path, advice: str) -> None:
    """Download one file, whole or not at all, from a host that answers soon.

    Args:
        address: Where it is.
        file: Where to.
        advice: What to do where that fails.

    Raises:
        OSError: It is not there, or the host does not answer within SOON.
    """
    try:
        urllib.request.urlopen(address, timeout=SOON).close()
        download(address, file)
    except (OSError, http.client.HTTPException) as error:
        told = str(error).replace(HINT, advice)
        reason = told if told.startswith(address) else f"{address}: {getattr(error, 'reason', None) or error}; {advice}"
        raise OSError(reason) from None


def stage(task: Task, files: list[Path], folder: Path) -> Task:
    """Put the splits into `folder`; gives back the task with the one place that they belong to."""
    archive, *others = files
    if others:
        train, test, dev_ids = files
        build_mrpc(train, test, dev_ids, folder)
    elif task.also and archive.name == PurePosixPath(MULTINLI).name:
        refuse_mixture(task, (task.folder, task.suffix), archive)
        task = dataclasses.replace(task, folder=task.also[0], suffix=task.also[1])
        unpack(archive, task, "multinli_1.0/multinli_1.0_", folder)
    else:
        if task.also:
            refuse_mixture(task, task.also, archive)
        unpack(archive, task, f"{task.folder}/", folder)
    return dataclasses.replace(task, also=None)


def refuse_mixture(task: Task, other: tuple[str, str], archive: Path) -> None:
    """Refuse to unpack an archive while the same task is there in another layout.

    Raises:
        ValueError: It is.
    """
    if there := task.files_there(*other):
        raise ValueError(f"{there[0]} is of another layout than {archive.name}; move {there[0].parent} away first")


def unpack(archive: Path, task: Task, inside: str, folder: Path) -> None:
    """Extract the splits of `task` and small notes from `archive` into `folder`, under names of our own.

    Args:
        archive: Zip file.
        task: Names of the splits and their extension.
        inside: What stands before `train.tsv` in the archive.
        folder: An empty folder.

    Raises:
        ValueError: The archive is damaged, or has a member that no honest archive has.
    """
    where = "its table of contents"
    try:
        with zipfile.ZipFile(archive) as zipped:
            chosen = dict(choose(archive, zipped.infolist(), task, inside))
            for name, member in chosen.items():
                where = member.filename
                with zipped.open(member) as packed, (folder / name).open("xb") as out:
                    shutil.copyfileobj(packed, out)  # compares the checksum at the end
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{archive} is truncated or damaged in {where}: {error}") from None


def choose(
    archive: Path, members: list[zipfile.ZipInfo], task: Task, inside: str
) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """Check every member, and yield those to keep with their new names."""
    splits = {f"{inside}{split}.{task.suffix}": f"{split}.{task.suffix}" for split in task.splits}
    total = 0
    for member in members:
        path = PurePosixPath(member.filename)
        unsafe = path.is_absolute() or ".." in path.parts or "\\" in member.filename
        if unsafe or stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{archive}: refused, as {member.filename!r} is a link or leaves the folder")
        note = path.stem.lower() in NOTES and member.file_size <= NOTE_SIZE and str(path.parent) == inside.split("/")[0]
        if not note and member.filename not in splits:
            continue
        total += member.file_size
        if total > TOTAL_SIZE or member.file_size > RATIO * member.compress_size + NOTE_SIZE:
            raise ValueError(f"{archive}: refused, as {member.filename!r} unpacks to {member.file_size} bytes")
        yield splits.get(member.filename, path.name), member


def build_mrpc(train: Path, test: Path, dev_ids: Path, folder: Path) -> None:
    """Make MRPC's three files as GLUE does: the rows whose pair of ids is in `dev_ids` are the dev split."""
    ids = set(_lines(dev_ids))
    header, *rows = _lines(train) or [b""]
    in_dev = [b"\t".join(row.split(b"\t")[1:3]) in ids for row in rows]
    _, *test_rows = _lines(test) or [b""]
    unlabelled = [b"%d\t%s" % (index, row.partition(b"\t")[2]) for index, row in enumerate(test_rows)]
    files = {
        "train.tsv": [header, *(row for row, dev in zip(rows, in_dev, strict=True) if not dev)],
        "dev.tsv": [header, *(row for row, dev in zip(rows, in_dev, strict=True) if dev)],
        "test.tsv": [b"index\t#1 ID\t#2 ID\t#1 String\t#2 String", *unlabelled],
    }
    for name, lines in files.items():
        (folder / name).write_bytes(b"\n".join(lines) + b"\n")


def _lines(file: Path) -> list[bytes]:
    """Split a file at line feeds alone, without line ends and empty lines."""
    return [line for line in (line.rstrip(b"\r") for line in file.read_bytes().split(b"\n")) if line]


def install(staging: Path, folder: Path, overwrite: bool) -> None:
    """Move the files of `staging` to `folder`: at once if it is new, else one by one beside what is there."""
    if not folder.exists():
        staging.rename(folder)
        return
    for file in sorted(staging.iterdir()):
        if overwrite or not (folder / file.name).exists():
            move(file, folder / file.name)
