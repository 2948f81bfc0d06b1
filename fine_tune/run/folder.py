"""A run from outside: its folder, what it was made with, what it tells the user."""

import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from fine_tune.flags.saved import check_same, save_config
from fine_tune.flags.shared import RunConfig, TeacherRef
from fine_tune.hardware import distributed
from fine_tune.hardware import rank as process
from fine_tune.hardware.cpu.memory import keep_freed_memory
from fine_tune.hardware.seed import own_dropout, set_seed
from fine_tune.model.checkpoint import list_checkpoints
from fine_tune.model.classifier import Classifier
from fine_tune.model.placement import compile_seconds
from fine_tune.path import PROJECT, lock, put_in_place, read_json, run_dir, unlock, write_json
from fine_tune.run.state import STATE
from fine_tune.tasks.table import TASKS, Task

logger = logging.getLogger(__name__)


def set_up_process(seed: int = 0, device: torch.device | None = None) -> None:
    """Set up memory, seeds, other processes, and messages: ours from INFO on, the libraries' errors only."""
    distributed.start(device or torch.device("cpu"))
    set_seed(seed)
    keep_freed_memory()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("fine_tune").setLevel(logging.INFO if process.is_main() else logging.ERROR)
    if not process.is_main():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def new_run_dir(cfg: RunConfig, teacher: TeacherRef | None = None) -> Path:
    """Name the folder of a new run, making sure that nothing is lost; `start_run` creates it.

    Raises:
        ValueError: It is the teacher's.
        FileExistsError: There is a run of this name, and `--overwrite` is not given.
    """
    folder = run_dir(cfg.experiment, cfg.model, cfg.task)
    origin = run_dir(teacher.teacher_exp, teacher.tmodel, cfg.task) if teacher else None
    if origin and (folder == origin or (folder.exists() and origin.exists() and folder.samefile(origin))):
        raise ValueError(f"--experiment {cfg.experiment} is the teacher's own run; choose another name")
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "config.json").is_file():
            raise FileExistsError(f"{folder} is not a run (it has no config.json); it is left alone")
        if cfg.resume and not can_go_on(folder) and list_checkpoints(folder):
            raise FileExistsError(f"{folder} has checkpoints but no {STATE} to --resume from; --overwrite begins anew")
        if not (cfg.overwrite or cfg.resume):
            how = "--resume goes on with it; else " if can_go_on(folder) and not is_complete(folder) else ""
            raise FileExistsError(
                f"{folder} exists; {how}choose another --experiment, or pass --overwrite to replace it"
            )
    return folder


def is_complete(folder: Path) -> bool:
    """Whether a run has come to its end."""
    about = folder / "run.json"
    return about.is_file() and bool(read_json(about).get("end"))


def can_go_on(folder: Path) -> bool:
    """Whether a run has come to its end, or left a state to go on from."""
    return (folder / STATE).is_file() or is_complete(folder)


def start_run(
    cfg: RunConfig,
    configs: Mapping[str, dict[str, Any]],
    model: Classifier,
    tokenizer: PreTrainedTokenizerFast,
    devices: dict[str, str],
    argv: list[str],
    made_from: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Create the folder of a run with what later readers need: configuration, architecture, tokenizer, provenance.

    A run that goes on has all that; it must have been made with the same. One that is complete ends here, with exit
    code 0.

    Args:
        cfg: The run's flags.
        configs: Its whole configuration, `config.json`, and further ones, by file name.
        model: The model to train.
        tokenizer: Its tokenizer.
        devices: Where every model lives.
        argv: The command.
        made_from: What else its result depends on, by name.

    Raises:
        ValueError: The run goes on, but something is not what it was.
        OSError: Another process writes into the folder.
    """
    own_dropout(cfg.seed)
    folder = run_dir(cfg.experiment, cfg.model, cfg.task)
    distributed.on_main(lambda: lock(folder))  # whoever had it may have gone on with the run
    new_run_dir(cfg)
    goes_on, complete = cfg.resume and can_go_on(folder), cfg.resume and is_complete(folder)
    distributed.barrier()  # by now every process has looked at what is there

    def write() -> None:
        remove(*leftovers(folder))
        kinds = {name: place.split(":")[0] for name, place in devices.items()}
        origin = {**made_from, "processes": process.world_size(), "device_type": kinds}
        about = {"argv": argv, "device": devices, **versions(), "start": now()}
        if goes_on:
            check_begun(folder, configs, origin, about)
            note_resumed(folder, about)
        else:
            create(folder, configs, about | {**origin, "end": None}, model, tokenizer, TASKS[cfg.task])

    distributed.on_main(write)
    if complete:
        print(f"{folder} is complete: there is nothing to --resume")
        raise SystemExit(0)
    return folder


def check_begun(
    folder: Path, configs: Mapping[str, dict[str, Any]], origin: dict[str, Any], about: dict[str, Any]
) -> None:
    """Check that a run which goes on was begun with the same values; warn where another machine may round otherwise.

    Raises:
        ValueError: The first value that differs.
    """
    for name, values in configs.items():
        check_same(folder / name, values)
    began = read_json(folder / "run.json")  # one of an older version may lack some
    check_same(folder / "run.json", {name: value for name, value in origin.items() if name in began})
    for name in ("torch", "transformers", "threads"):
        if began.get(name) != about[name]:
            logger.warning(
                "the run began with %s %s, now it is %s: it may differ in rounding from an uninterrupted one",
                *(name, began.get(name), about[name]),
            )


def note_resumed(folder: Path, about: dict[str, Any]) -> None:
    """Note in `run.json` that a run goes on; of a complete one, remove the state, if a killed process left it."""
    if is_complete(folder):
        (folder / STATE).unlink(missing_ok=True)
        return
    saved = read_json(folder / "run.json")
    write_json(folder / "run.json", saved | {"resumed": [*saved.get("resumed", []), about]})


def create(
    folder: Path,
    configs: Mapping[str, dict[str, Any]],
    about: dict[str, Any],
    model: Classifier,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
) -> None:
    """Put a new run's folder in place in one step; an old one, and its TensorBoard, is gone by then."""
    building = folder.with_name(f".{folder.name}.new")
    building.mkdir()
    for name, values in configs.items():
        save_config(building / name, values)
    write_json(building / "run.json", about)
    if task.labels:
        names = dict(enumerate(task.labels))
        model.encoder.config.update({"id2label": names, "label2id": {name: number for number, name in names.items()}})
    model.encoder.config.to_json_file(building / "encoder.json")
    tokenizer.save_pretrained(building / "tokenizer")
    for old in (folder, folder.parent / "log" / folder.name):
        if old.exists():  # moved aside first: an interrupted removal leaves nothing that looks like a run
            remove(old.rename(old.with_name(f".{old.name}.removed")))
    put_in_place(building, folder)


def leftovers(folder: Path) -> Iterator[Path]:
    """Find what a killed process left of a run beside the run itself; call it only while holding the run's lock."""
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
    if process.is_main():
        (folder / STATE).unlink(missing_ok=True)
        unlock(folder)
    print(f"\ncheckpoints and logs: {folder}")


def now() -> str:
    """Local time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def versions() -> dict[str, Any]:
    """Collect what a result depends on beside its flags."""
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


def print_table(title: str, values: dict[str, Any]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, values))
    print(f"\n{title}\n" + "\n".join(f"  {name:<{width}}  {value}" for name, value in values.items()), flush=True)
