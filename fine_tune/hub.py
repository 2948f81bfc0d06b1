"""Where a pre-trained encoder or its tokenizer is: in a local folder, on the model hub, or in the hub's cache."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fine_tune.files import fault, first_line
from fine_tune.path import expanded

CONFIG = ("config.json",)
WEIGHTS = (  # the first one that is there is read
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""Files of a model's folder that transformers reads."""

SECONDS = 5.0
"""Time in which the hub has to answer."""


def located(name: str) -> tuple[str, dict[str, Any]]:
    """Give what the library's `from_pretrained` is to be called with: a folder or a hub name, and options.

    A hub that cannot be reached is not asked again and again: only what it once gave is looked at.
    """
    folder = expanded(name)
    if folder.is_dir():
        return str(folder), {"trust_remote_code": False}
    return name, {"trust_remote_code": False, "local_files_only": bool(unreachable(name))}


def lasting(name: str) -> str:
    """Spell an encoder so that it is the same from any folder: a folder by its whole path, a hub name as it is."""
    folder = expanded(name)
    return str(folder.resolve()) if name and folder.is_dir() else name


def missing(name: str, error: Exception, files: Sequence[str]) -> str:
    """Say why a model or its tokenizer, which are in these `files`, could not be had."""
    folder = expanded(name)
    if folder.is_dir():
        return folder_fault(folder, files) or f"{type(error).__name__}: {first_line(error)}"
    if why := unreachable(name):
        return f"no such folder, and {why}; what was fetched from it before does not have {name!r}"
    return f"no such folder, nor on the model hub: {first_line(error)}"


def folder_fault(folder: Path, files: Sequence[str]) -> str:
    """Say what is wrong with the files of a model's folder, as far as it can be seen from outside; "" if nothing is."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"{folder} cannot be read: permission denied"
    there = [file for name in files if (file := folder / name).exists()]
    if not there:
        return f"{folder} has none of {', '.join(files)}"
    return next(filter(None, map(fault, there)), "")


def weight_files(folder: Path) -> tuple[str, ...]:
    """Name the files in which a model's folder has its weights: the first that is there is the one that is read."""
    return next(((name,) for name in WEIGHTS if (folder / name).exists()), WEIGHTS)


@cache
def unreachable(name: str) -> str:
    """Say why the hub cannot be asked for `name`; "" if it can."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to ask the model hub"
    try:
        huggingface_hub.HfApi().model_info(name, timeout=SECONDS)
    except (HfHubHTTPError, ValueError):
        return ""  # it answered, or the name is no name: the library says what is wrong
    except Exception as error:  # of whatever library carries the request
        return f"the model hub cannot be reached ({first_line(error)})"
    return ""
