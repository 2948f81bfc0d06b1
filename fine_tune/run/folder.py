"""A run's folder: whether it is free, what is put into it at the start, how the run's end is noted."""

import logging
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from fine_tune.files import lock, put_in_place, read_json, unlock, write_json
from fine_tune.flags.saved import check_same, save_config
from fine_tune.hardware import distributed, rank
from fine_tune.model.checkpoint import list_checkpoints
from fine_tune.model.classifier import Classifier
from fine_tune.model.placement import compile_seconds
from fine_tune.path import PROJECT
from fine_tune.run.state import STATE

logger = logging.getLogger(__name__)


class Place(Protocol):
    """Where a run is to be, and whether it may continue or replace one that is there."""

    @property
    def experiment(self) -> str:
        """Its name."""

    @property
    def folder(self) -> Path:
        """Its folder."""

    @property
    def resume(self) -> bool:
        """Whether it continues one that is there."""

    @property
    def overwrite(self) -> bool:
        """Whether it replaces one that is there."""


class Contents(NamedTuple):
    """What a new run's folder holds from the start, and what the run's result depends on.

    Attributes:
        configs: The whole configuration, `config.json`, and those of its parts, by file name.
        model: The model that is trained.
        tokenizer: Its tokenizer.
        devices: Where every model lives, in words.
        labels: Names of the classes; none for a regression.
        command: The command.
        made_from: What else the result depends on, by name.
    """

    configs: Mapping[str, dict[str, Any]]
    model: Classifier
    tokenizer: PreTrainedTokenizerFast
    devices: Mapping[str, str]
    labels: Sequence[str]
    command: Sequence[str]
    made_from: Mapping[str, Any]


def check_free(cfg: Place, origin: Path | None = None) -> None:
    """Make sure that a new run's folder is free, or may be replaced or continued, so that nothing is lost.

    Args:
        cfg: The run's place.
        origin: Folder of its teacher.

    Raises:
        ValueError: It is the teacher's.
        FileExistsError: There is a run of this name, and `--overwrite` is not given.
    """
    folder = cfg.folder
    if origin and (folder == origin or (folder.exists() and origin.exists() and folder.samefile(origin))):
        raise ValueError(f"--experiment {cfg.experiment} is the teacher's own run; choose another name")
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "config.json").is_file():
            raise FileExistsError(f"{folder} is not a run (it has no config.json); it is left alone")
        if cfg.resume and not can_go_on(folder) and list_checkpoints(folder):
            raise FileExistsError(f"{folder} has checkpoints but no {STATE} to --resume from; --overwrite begins anew")
        if not (cfg.overwrite or cfg.resume):
            how = "--resume continues it; else " if can_go_on(folder) and not is_complete(folder) else ""
            raise FileExistsError(
                f"{folder} exists; {how}choose another --experiment, or pass --overwrite to replace it"
            )


def is_complete(folder: Path) -> bool:
    """Whether a run has come to its end."""
    about = folder / "run.json"
    return about.is_file() and bool(read_json(about).get("end"))


def can_go_on(folder: Path) -> bool:
    """Whether a run has come to its end, or left a state to resume from."""
    return (folder / STATE).is_file() or is_complete(folder)


def open_folder(cfg: Place, contents: Contents) -> None:
    """Create the folder of a run with what later readers need: configuration, architecture, tokenizer, provenance.

    A run that continues has them already, and they must agree. A complete run ends here, with exit code 0.

    Raises:
        ValueError: The run continues, but something is not what it was.
        OSError: Another process writes into the folder.
    """
    folder = cfg.folder
    distributed.on_main(lambda: lock(folder))  # whoever had it may have continued the run
    check_free(cfg)
    goes_on, complete = cfg.resume and can_go_on(folder), cfg.resume and is_complete(folder)
    distributed.barrier()  # by now every process has looked at what is there

    def write() -> None:
        remove(*leftovers(folder))
        kinds = {name: device.split(":")[0] for name, device in contents.devices.items()}
        origin = {**contents.made_from, "processes": rank.world_size(), "device_type": kinds}
        about = {"argv": list(contents.command), "device": dict(contents.devices), **versions(), "start": now()}
        if goes_on:
            check_begun(folder, contents.configs, origin, about)
            note_resumed(folder, about)
        else:
            create(cfg, contents, about | {**origin, "end": None})

    distributed.on_main(write)
    if complete:
        print(f"{folder} is complete: there is nothing to --resume")
        raise SystemExit(0)


def check_begun(
    folder: Path, configs: Mapping[str, dict[str, Any]], origin: dict[str, Any], about: dict[str, Any]
) -> None:
    """Check that a run which continues was begun with the same values; warn where another machine may round otherwise.

    Raises:
        ValueError: The first value that differs.
    """
    began = read_json(folder / "run.json")  # one of an older version may lack some, or name more devices
    for name, values in configs.items():
        check_same(folder / name, values)
    if isinstance(kinds := began.get("device_type"), dict):
        origin = origin | {"device_type": {name: origin["device_type"].get(name, kind) for name, kind in kinds.items()}}
    check_same(folder / "run.json", {name: value for name, value in origin.items() if name in began})
    for name, what in {
        "commit": "",
        "torch": " in rounding",
        "transformers": " in rounding",
        "threads": " in rounding",
    }.items():
        if began.get(name) != about[name]:
            logger.warning(
                "the run began with %s %s, now it is %s: it may differ%s from an uninterrupted one",
                *(name, began.get(name), about[name], what),
            )


def note_resumed(folder: Path, about: dict[str, Any]) -> None:
    """Note in `run.json` that a run continues; remove the state that a killed process left in a complete one."""
    if is_complete(folder):
        (folder / STATE).unlink(missing_ok=True)
        return
    saved = read_json(folder / "run.json")
    write_json(folder / "run.json", saved | {"resumed": [*saved.get("resumed", []), about]})


def create(cfg: Place, contents: Contents, about: dict[str, Any]) -> None:
    """Replace an old run's folder and TensorBoard files; the new folder appears in one step."""
    folder = cfg.folder
    building = folder.with_name(f".{folder.name}.new")
    building.mkdir()
    for name, values in contents.configs.items():
        save_config(building / name, values)
    write_json(building / "run.json", about)
    config = contents.model.encoder.config
    if contents.labels:
        names = dict(enumerate(contents.labels))
        config.update({"id2label": names, "label2id": {name: number for number, name in names.items()}})
    config.to_json_file(building / "encoder.json")
    contents.tokenizer.save_pretrained(building / "tokenizer")
    for old in (folder, folder.parent / "log" / folder.name):
        if old.exists():  # moved aside first: an interrupted removal leaves nothing that looks like a run
            remove(old.rename(old.with_name(f".{old.name}.removed")))
    put_in_place(building, folder)


def leftovers(folder: Path) -> Iterator[Path]:
    """Find what a killed process left behind; call it only while holding the run's lock."""
    yield from folder.glob(".*.pt.*.part")
    for place in (folder, folder.parent / "log" / folder.name):
        yield from (place.with_name(f".{place.name}.{what}") for what in ("new", "removed"))


def remove(*paths: Path) -> None:
    """Delete files and folders, where they are there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def finish_run(folder: Path) -> None:
    """Note the end of a run in its `run.json`, say where it is."""
    file = folder / "run.json"
    write_json(file, read_json(file) | {"end": now(), "compile_seconds": round(compile_seconds(), 1)})
    if rank.is_main():
        (folder / STATE).unlink(missing_ok=True)
        unlock(folder)
    print(f"\ncheckpoints and logs: {folder}")


def now() -> str:
    """Local time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def versions() -> dict[str, Any]:
    """Collect the versions that a result depends on."""
    git = ["git", "-C", str(PROJECT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
        commit += "+changes" if changed.strip() else ""
    except (OSError, subprocess.CalledProcessError):
        commit = None
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "gpus": gpus,
    }
