"""Where a task is found by what `--task` says: in the table, in a task file, or in the runs of a user's own task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fine_tune.path import data_dir, expanded
from fine_tune.tasks.own import FLAGS, TASK_JSON, own_task, read_task_file, task_of
from fine_tune.tasks.table import TASKS, Task

READ: dict[tuple[Path, str], Task] = {}
"""The tasks that this process has made of task files or flags, by data folder and name."""


def task_named(name: str, flags: Mapping[str, Any] | None = None, experiment: str | None = None) -> Task:
    """Find a task.

    Args:
        name: `sst2`, or GLUE's own `SST-2`; a task file, `mine.yaml`; or the name of a user's own task that has runs.
        flags: What flags say of a user's own task, by the keys of a task file.
        experiment: The run that is read; it knows its own task, whatever other runs of that name have.

    Raises:
        ValueError: There is no such task, or there are two of that name.
        OSError: Its files cannot be read.
    """
    flags = flags or {}
    is_file = name.endswith((".yaml", ".yml")) or Path(name).name == TASK_JSON
    file = expanded(name) if is_file else None
    if file and (beside := [key for key in flags if not key.startswith("split")]):
        raise ValueError(f"--task {name}: says it all; leave --{FLAGS[beside[0]]} out")
    if file or "train" in flags:
        origin = str(file or f"--train_file {flags['train']}")
        if file:
            task = read_task_file(file.resolve(), flags)
        else:
            task = own_task({"name": name, **flags}, Path.cwd(), origin)
        check_runs(task, origin)
        READ[data_dir(), task.name] = task
        return task
    found = TASKS.get(name.lower()) or TASKS.get(name.lower().replace("-", ""))
    if found is None and experiment:
        found = of_runs(name, experiment)
        READ.update({(data_dir(), name): found} if found else {})
    found = found or READ.get((data_dir(), name)) or of_runs(name)
    if found is None:
        own = "rows of your own have a task file, mine.yaml, or runs in this data folder"
        raise ValueError(f"--task must be one of {', '.join(TASKS)}, got {name!r}; {own}")
    check_flags(found, flags)
    return found


def runs_of(name: str, experiment: str = "") -> dict[Path, Task]:
    """Find the runs of a user's own task, or those of an experiment alone, and what each says of it."""
    if not name.isalnum():
        return {}
    kept = sorted((data_dir() / "fine_tune_experiment").glob(f"[!.]*_{name}/{TASK_JSON}"))
    kept = [file for file in kept if not experiment or file.parent.name.rsplit("_", 2)[0] == experiment]
    return {file: task for file in kept if (task := task_of(file.parent))}


def of_runs(name: str, experiment: str = "") -> Task | None:
    """Find a user's own task in its runs.

    Raises:
        ValueError: They do not agree.
    """
    found = runs_of(name, experiment)
    first = next(iter(found.items()), None)
    for file, task in found.items():
        if first and task != first[1]:
            raise ValueError(f"--task {name}: {first[0]} and {file} do not agree; say which: --task {first[0]}")
    return first[1] if first else None


def check_runs(task: Task, origin: str) -> None:
    """Refuse a task whose name has runs with other columns or classes; its files may have moved.

    Raises:
        ValueError: With both.
    """
    for file, other in runs_of(task.name).items():
        if (task.text, task.label, task.labels, task.kind) != (other.text, other.label, other.labels, other.kind):
            raise ValueError(
                f"{origin}: has other columns or classes than the task of the same name in {file}; give another name"
            )


def check_flags(task: Task, flags: Mapping[str, Any]) -> None:
    """Refuse flags that say something else of a task than is known.

    Raises:
        ValueError: The flag, and what is known.
    """
    known = dict(zip(("split", "split_seed"), task.held_out or (), strict=False))
    for key, value in flags.items():
        if key not in known:
            why = "is one of this project; leave the flag out" if task.name in TASKS else "needs --train_file, too"
            raise ValueError(f"--{FLAGS[key]}: the task {task.name} {why}")
        if value != known[key]:
            raise ValueError(f"--{key} {value}: the runs of {task.name} have {known[key]}; leave the flag out")
