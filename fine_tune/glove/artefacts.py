"""What is made has a name of its own; the name that the document gives it is a link to what was made last.

The document has one `pytorch-model.pt`, one `train.txt.fs`, one `augmented.raw.pred` for all teachers. So a second
teacher, or a second student under the same `--save_path`, replaces a link and nothing else.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def own_name(file: Path, teacher: str) -> Path:
    """Name a teacher's own file: `train.txt.fs` becomes `train.txt.<teacher>.fs`."""
    return file.with_name(f"{file.stem}.{teacher}{file.suffix}")


def name_of(source: str) -> str:
    """Name a teacher after its encoder or run: the last part of a hub name or a folder."""
    return re.sub(r"[^A-Za-z0-9_+=-]", "-", Path(source).resolve().name if Path(source).is_dir() else Path(source).name)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Name settings by eight characters."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def check_link(link: Path) -> None:
    """Make sure that a name is free to become a link.

    Raises:
        FileExistsError: A file or a folder of the user's own has it.
    """
    if link.exists() and not link.is_symlink():
        raise FileExistsError(f"{link} is there and was not made by this script; move it away, or take another name")


def point(link: Path, target: Path) -> None:
    """Make `link` a link to `target`, in one step.

    Raises:
        FileExistsError: See `check_link`.
    """
    check_link(link)
    link.parent.mkdir(parents=True, exist_ok=True)
    new = link.with_name(f".{link.name}.{os.getpid()}.part")
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
    os.replace(new, link)
