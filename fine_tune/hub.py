"""Where a pre-trained encoder or its tokenizer is: in a local folder, on the model hub, or in the hub's cache."""

from functools import cache
from pathlib import Path
from typing import Any

from fine_tune.files import first_line

SECONDS = 5.0
"""Time in which the hub has to answer."""


def located(name: str) -> tuple[str, dict[str, Any]]:
    """Give what the library's `from_pretrained` is to be called with: a folder or a hub name, and options.

    A hub that cannot be reached is not asked again and again: only what it once gave is looked at.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder), {"trust_remote_code": False}
    return name, {"trust_remote_code": False, "local_files_only": bool(unreachable(name))}


def missing(name: str, error: Exception) -> str:
    """Say why an encoder or a tokenizer could not be had."""
    if not Path(name).expanduser().is_dir() and (why := unreachable(name)):
        return f"no such folder, and {why}; what was fetched from it before does not have {name!r}"
    return f"no such folder, nor on the model hub: {first_line(error)}"


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
