"""Rows of any number become augmented rows of a file, in two passes, by several processes that may be killed.

1. Tag every row, into a hidden folder beside the output, and gather the distinct words of each tag.
2. Sample every row. Row i draws from `default_rng([seed, i])`, so neither processes nor chunks change a byte.

In memory: the distinct words and some chunks. A note says how far the rows on disk have come; what was written after
it is cut off and made again. The output appears by one rename; `<output>.json` says what it was made from.
"""

import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from fine_tune.files import digest, lock, read_json, sync, unlock, write_json
from fine_tune.glove.analyze import Analyzer, analyzer_named
from fine_tune.glove.augment import samples
from fine_tune.glove.flags import AugmentConfig, CrewConfig

FORMAT = 1
"""Raise when the same settings give other rows than before."""
CHUNK = 100
"""Rows that a process is given at once."""
SECONDS = 2.0
"""Between two notes."""

Work = Callable[[int, Sequence[str]], str]
"""Turns rows into lines, given the number of the first."""


def augment_rows(
    read: Callable[[], Iterator[str]],
    count: int,
    output: Path,
    cfg: AugmentConfig,
    analyzer: Analyzer,
    processes: int = 1,
    *,
    header: str = "",
    suffix: str = "",
    overwrite: bool = False,
    chunk: int = CHUNK,
) -> bool:
    r"""Write every row and its samples to a file; what a killed process has done is kept, up to some seconds.

    Args:
        read: Gives the rows from the first on: a text that is not blank, or `text<TAB>rest`, whose rest follows each
            sample, TAB included.
        count: Rows, for the progress bars.
        output: The file.
        cfg: How samples are drawn.
        analyzer: Finds words and tags.
        processes: Processes.
        header: First line of the file, if any.
        suffix: Follows each sample, after the row's rest.
        overwrite: Replace a file that was made from something else.
        chunk: Rows that a process is given at once.

    Returns:
        Whether it was written; it was not if it is there already.

    Raises:
        ValueError: There is a file that was made from something else.
        OSError: It cannot be written, or a process was killed.
    """
    about = {**asdict(cfg), "analyzer": analyzer.about, "header": header, "suffix": suffix}
    about |= {"format": FORMAT, "rows_sha256": sha256(read())}
    lock(output, wait=True)
    try:
        if is_there(output, about, overwrite):
            return False
        folder = output.with_name(f".{output.name}.part")
        if not (folder / "about.json").is_file() or read_json(folder / "about.json") != about:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            write_json(folder / "about.json", about)
        tagged, written = Made(folder / "tagged"), Made(folder / "samples")
        crew = Crew(processes, chunk)
        crew.fill(tagged, "tags", count, read, tagger, (analyzer, cfg))
        by_tag = distinct_words(tagged.rows(), analyzer.replaceable)
        crew.fill(written, "samples", count, tagged.rows, sampler, (by_tag, cfg, suffix), header)
        made = {"lines": written.note()["lines"], "output_sha256": digest(written.file)}
        write_json(beside(output), about | made)  # killed after it, an older output does not have that hash
        os.replace(written.file, output)
        sync(output.parent)
        shutil.rmtree(folder)
        return True
    finally:
        unlock(output)


def augment_and_tell(
    read: Callable[[], Iterator[str]],
    output: Path,
    cfg: AugmentConfig,
    analyzer: str,
    crew: CrewConfig,
    *,
    header: str = "",
    suffix: str = "",
) -> None:
    """Write rows and their samples, see `augment_rows`, and say what is there."""
    found, count = analyzer_named(analyzer), sum(1 for _ in read())
    new = augment_rows(
        read, count, output, cfg, found, crew.crew, header=header, suffix=suffix, overwrite=crew.overwrite
    )
    lines = read_json(beside(output))["lines"]
    print(f"{'wrote' if new else 'already there'}: {output} ({lines:,} lines of {count:,} texts)")


def sha256(rows: Iterable[str]) -> str:
    """Hash rows; so all of them are read, and bad ones refused, before the work begins."""
    found = hashlib.sha256()
    for row in rows:
        found.update(f"{row}\n".encode())
    return found.hexdigest()[:20]


def beside(output: Path) -> Path:
    """Name the file that says what a file was made from."""
    return output.with_name(f"{output.name}.json")


def is_there(output: Path, about: dict[str, Any], overwrite: bool) -> bool:
    """Whether a file was made from the same already, and not changed since.

    Raises:
        ValueError: It was not, and may not be replaced.
    """
    if not output.exists():
        return False
    found = read_json(beside(output)) if beside(output).is_file() else {}
    if found.get("output_sha256") != digest(output):
        unlike = ["it was made by something else, or changed since"]
    else:
        unlike = [
            f"{key} was {found.get(key)!r}, is {value!r}" for key, value in about.items() if found.get(key) != value
        ]
    if unlike and not overwrite:
        raise ValueError(f"--output {output}: already there, but {', '.join(unlike)}; replace it with --overwrite")
    return not unlike


class Made(NamedTuple):
    """A file that is being filled, and beside it a note of how far it has come."""

    file: Path

    def note(self) -> dict[str, int]:
        """Read how many rows it holds whole, in how many bytes and lines."""
        note = self.file.with_suffix(".json")
        if note.is_file() and self.file.is_file():
            there: dict[str, int] = read_json(note)
            if there["bytes"] <= self.file.stat().st_size:
                return there
        return {"rows": 0, "bytes": 0, "lines": 0}

    def rows(self) -> Iterator[str]:
        """Read its lines."""
        with self.file.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield line.removesuffix("\n")


@dataclass(frozen=True)
class Crew:
    """Processes, and how many rows each is given at once."""

    processes: int
    chunk: int

    def fill(
        self,
        made: Made,
        title: str,
        count: int,
        read: Callable[[], Iterator[str]],
        make: Callable[..., Work],
        args: tuple[Any, ...],
        header: str = "",
    ) -> None:
        """Fill a file with what `make(*args)` makes of rows, from where it stopped."""
        note = made.note()
        look: dict[str, Any] = {"unit": "row", "desc": title, "dynamic_ncols": True, "mininterval": 1}
        made.file.touch()
        with made.file.open("r+b") as file, tqdm(total=count, initial=note["rows"], **look) as bar:
            file.truncate(note["bytes"])
            file.seek(note["bytes"])

            def write(text: str, rows: int) -> None:
                file.write(text.encode())
                note.update(rows=note["rows"] + rows, bytes=file.tell(), lines=note["lines"] + text.count("\n"))
                bar.update(rows)

            def save() -> None:
                file.flush()
                os.fsync(file.fileno())
                write_json(made.file.with_suffix(".json"), note)

            if header and not note["bytes"]:
                write(f"{header}\n", 0)
            saved = time.monotonic()
            try:
                for text, rows in self.work(islice(read(), note["rows"], None), note["rows"], make, args):
                    write(text, rows)
                    if time.monotonic() - saved > SECONDS:
                        save()
                        saved = time.monotonic()
            finally:
                save()

    def work(
        self, rows: Iterator[str], first: int, make: Callable[..., Work], args: tuple[Any, ...]
    ) -> Iterator[tuple[str, int]]:
        """Give the lines of each chunk, in order, and its rows; no more chunks than the processes need are read."""
        if self.processes == 1:
            work = make(*args)
            yield from ((work(number, part), len(part)) for number, part in chunks(rows, first, self.chunk))
            return
        waiting: deque[tuple[Future[str], int]] = deque()
        pool = ProcessPoolExecutor(self.processes, initializer=begin, initargs=(make, args))
        try:
            for number, part in chunks(rows, first, self.chunk):
                waiting.append((pool.submit(do, number, part), len(part)))
                if len(waiting) > 3 * self.processes:
                    done, size = waiting.popleft()
                    yield done.result(), size
            yield from ((done.result(), size) for done, size in waiting)
        except BrokenProcessPool:
            need = "one of the processes was killed, maybe for lack of memory; fewer --processes need less"
            raise OSError(f"{need}; the same command goes on where it stopped") from None
        finally:
            pool.shutdown(cancel_futures=True)


def chunks(rows: Iterator[str], first: int, size: int) -> Iterator[tuple[int, list[str]]]:
    """Cut rows into chunks, each with the number of its first row."""
    while part := list(islice(rows, size)):
        yield first, part
        first += len(part)


IN_PROCESS: dict[str, Work] = {}
"""What this process of a crew does."""


def begin(make: Callable[..., Work], args: tuple[Any, ...]) -> None:
    """Get a process of a crew ready; it ends with the one that started it, even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    IN_PROCESS["work"] = make(*args)


def end_with_parent() -> None:
    """Wait for the end of the process that started this one."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def do(first: int, rows: Sequence[str]) -> str:
    """Do a chunk in a process of a crew."""
    return IN_PROCESS["work"](first, rows)


def tagger(analyzer: Analyzer, cfg: AugmentConfig) -> Work:
    """Make what turns rows into `words<TAB>tags<TAB>rest`."""
    tag = analyzer.load()

    def cased(word: str) -> str:
        return word.lower() if cfg.lower and word != cfg.mask_token else word

    def work(first: int, rows: Sequence[str]) -> str:
        cells = [row.partition("\t") for row in rows]
        tagged = zip(tag([text for text, _, _ in cells]), cells, strict=True)
        return "".join(
            f"{' '.join(map(cased, words))}\t{' '.join(tags)}\t{tab}{rest}\n"
            for (words, tags), (_, tab, rest) in tagged
        )

    return work


def distinct_words(tagged: Iterable[str], replaceable: Callable[[str], bool]) -> dict[str, list[str]]:
    """Gather the distinct words of each tag, in the order in which they are first seen."""
    found: dict[str, dict[str, None]] = {}
    for row in tagged:
        words, tags, _ = row.split("\t", 2)
        for word, tag in zip(words.split(" "), tags.split(" "), strict=True):
            found.setdefault(tag, {})[word] = None
    return {tag: list(words) for tag, words in found.items() if replaceable(tag)}


def sampler(by_tag: Mapping[str, Sequence[str]], cfg: AugmentConfig, suffix: str) -> Work:
    """Make what turns `words<TAB>tags<TAB>rest` into a line per sample."""

    def work(first: int, rows: Sequence[str]) -> str:
        lines = []
        for number, row in enumerate(rows, first):
            words, tags, rest = row.split("\t", 2)
            generator = np.random.default_rng([cfg.seed, number])
            drawn = samples(words.split(" "), tags.split(" "), by_tag, cfg, generator)
            lines += [f"{' '.join(sample)}{rest}{suffix}\n" for sample in drawn]
        return "".join(lines)

    return work
