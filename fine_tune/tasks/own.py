"""A task of a user's own rows: a task file in YAML, or flags that say the same, become a `Task`; runs keep it as JSON.

The keys of a task file, formats and traps: doc/own_data_format.md. What it leaves open is read off the training rows,
once: a run's `task.json` has it all, so that readers of the run need neither the task file nor those rows.
"""

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fine_tune.files import fault, first_line, read_json
from fine_tune.path import expanded
from fine_tune.tasks.rows import SEVERAL, RowError, label_words, records, same_text
from fine_tune.tasks.table import TASKS, Task

TASK_JSON = "task.json"
SPLITS = ("train", "dev", "test")
KEYS = (*SPLITS, "name", "text", "label", "labels", "kind", "metrics", "names", "split", "split_seed")
FLAGS = {
    "train": "train_file",
    "dev": "validation_file",
    "test": "test_file",
    "text": "text_column_names",
    "label": "label_column_name",
    "split": "split",
    "split_seed": "split_seed",
}
"""Flags in the words of HuggingFace's scripts, by the keys that they stand for."""
LISTS = ("text", "labels", "metrics", "names")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
METRICS = {
    "single": ("accuracy", "f1", "macro_f1", "matthews"),
    "multi": ("micro_f1", "macro_f1", "accuracy"),
    "regression": ("pearson", "spearman"),
}
"""What can be reported of each kind of task; of classes, accuracy alone is unless more is asked for."""
SEED = 42
RANGE = (-3.4e38, 3.4e38)
"""Scores of a user's own task may be any that float32 has."""
FEW = 20
"""From this many training rows on, a class for every second one of them is no class."""


def read_task_file(file: Path, more: Mapping[str, Any]) -> Task:
    """Make a task of a task file, or of the copy that a run keeps.

    Args:
        file: The file.
        more: Keys that it leaves open, from flags.

    Raises:
        ValueError: `file: reason`.
        OSError: It cannot be read, or a file that it names is not there.
    """
    if not file.is_file():
        raise FileNotFoundError(f"--task {file}: there is no such file")
    if why := fault(file):
        raise ValueError(f"--task {why}")
    values = read_json(file) if file.suffix == ".json" else _read_yaml(file)
    if twice := sorted(key for key in more if key in values and str(values[key]) != str(more[key])):
        raise ValueError(f"--{twice[0]} {more[twice[0]]}: {file} has {twice[0]} {reprlib.repr(values[twice[0]])}")
    return own_task({"name": file.stem, **values, **more}, file.parent, str(file), kept=file.suffix == ".json")


def _read_yaml(file: Path) -> dict[str, Any]:
    """Read a mapping in which `yes`, `1` and `null` are the words that stand there."""
    import yaml  # type: ignore[import-untyped]

    try:
        text = file.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        values = yaml.load(text, Loader=yaml.BaseLoader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8: {error.reason} at byte {error.start}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        problem = getattr(error, "problem", None) or first_line(error)
        raise ValueError(f"{file}{'' if line is None else f':{line + 1}'}: not YAML: {problem}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: must hold lines such as `train: train.csv`, got {reprlib.repr(values)}")
    keys = [key.value for key, _ in node.value]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{file}: the key {twice[0]!r} stands twice")
    return values


def own_task(values: Mapping[str, Any], base: Path, where: str, kept: bool = False) -> Task:
    """Make a task of the values of a task file; what is left open is read off the training rows.

    Args:
        values: By key.
        base: Folder that paths are relative to.
        where: What the values are from, for messages.
        kept: They are a run's copy: all is settled, and its files need not be there.

    Raises:
        ValueError: `where: reason`, or `file:line: reason` of the rows.
        OSError: A file is not there.
    """
    plain = {key: _plain(key, value, where) for key, value in values.items() if not (kept and key == "test_labels")}
    name = _name(plain["name"], where)
    files = {split: _file(split, plain[split], base, where) for split in SPLITS if split in plain}
    if "train" not in files:
        raise ValueError(f"{where}: no training rows; name their file: train: train.csv")
    held_out = _held_out(plain, where)
    text, label = tuple(plain.get("text", ["sentence"])), plain.get("label", "label")
    if not 1 <= len(text) <= 2 or len({*text, label}) < len(text) + 1:
        raise ValueError(f"{where}: text must name one column or two, other than the label's, got {', '.join(text)}")
    if not kept:
        for split, file in files.items():
            _check_columns(file, (*text, *([label] if split != "test" else [])))
    kind, labels = _settled(plain, files["train"], (*text, label), where)
    metrics = tuple(plain.get("metrics", METRICS[kind] if kind != "single" else ("accuracy",)))
    if not metrics or not set(metrics) <= set(METRICS[kind]) or len(set(metrics)) < len(metrics):
        raise ValueError(f"{where}: metrics must be some of {', '.join(METRICS[kind])}, got {', '.join(metrics)}")
    names = tuple(plain.get("names", ()))
    _check_signs(kind, names, where)
    if names and (len(names) != len(labels) or "labels" not in plain):
        raise ValueError(f"{where}: names are one for each of labels, in their order; {len(names)} for {len(labels)}")
    if kept:
        test_labels = bool(values.get("test_labels"))
    else:
        test_labels = "test" in files and _has_labels(files["test"], label, kind, labels)
    return Task(
        name, name, text, label, labels, metrics, index=None, score_range=RANGE, names=names,
        splits=tuple(split for split in SPLITS if split in files or (split == "dev" and held_out)),
        submission=(("test", f"{name}.{'csv' if files['test'].suffix == '.csv' else 'tsv'}"),)
        if "test" in files else (),
        files=tuple((split, str(file)) for split, file in files.items()),
        multi=kind == "multi", held_out=held_out,
        test_labels=test_labels,
    )  # fmt: skip


def _plain(key: str, value: Any, where: str) -> Any:
    """Check that a key is known and its value a word, or a list of words."""
    if key not in KEYS:
        raise ValueError(f"{where}: unknown key {reprlib.repr(key)}; the keys are {', '.join(KEYS)}")
    if key in LISTS:
        value = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(each, str) and each.strip() for each in value) or len(set(value)) < len(value):
            raise ValueError(f"{where}: {key} must be different words, got {reprlib.repr(value)}")
        return value
    if not isinstance(value, str | int | float) or not str(value).strip():
        raise ValueError(f"{where}: {key} must be a word or a number, got {reprlib.repr(value)}")
    return str(value)


def _name(name: str, where: str) -> str:
    """Check a task's name."""
    if not re.fullmatch("[A-Za-z0-9]+", name):
        such = re.sub("[^A-Za-z0-9]", "", name) or "mine"
        raise ValueError(f"{where}: the task's name must be letters and digits, such as {such}, got {name!r}")
    if name.lower() in TASKS:
        raise ValueError(f"{where}: name {name} is that of a task of this project; take another, such as my{name}")
    return name


def _file(split: str, name: str, base: Path, where: str) -> Path:
    """Find the file of a split."""
    file = (base / expanded(name)).resolve()
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{where}: {split} must be a file that ends with {', '.join(SUFFIXES)}, got {name}")
    return file


def _held_out(plain: Mapping[str, Any], where: str) -> tuple[float, int] | None:
    """Check what is to be held out of the training rows."""
    if "split" not in plain:
        if "dev" not in plain:
            raise ValueError(
                f"{where}: no dev rows to evaluate on; name their file, or hold out a tenth of the training rows: "
                "split: 0.1 (or --split 0.1)"
            )
        if "split_seed" in plain:
            raise ValueError(f"{where}: split_seed {plain['split_seed']} has no effect without split")
        return None
    if "dev" in plain:
        raise ValueError(f"{where}: split {plain['split']} holds out dev rows, but there is a file of dev; give one")
    try:
        share, seed = float(plain["split"]), int(plain.get("split_seed", SEED))
    except ValueError:
        share = seed = -1
    if not 0 < share < 1 or not 0 <= seed < 2**63:
        told = f"{plain['split']} and {plain.get('split_seed', SEED)}"
        raise ValueError(f"{where}: split must be between 0 and 1, split_seed a number from 0 on, got {told}")
    return share, seed


def _check_columns(file: Path, needed: Sequence[str]) -> None:
    """Refuse a file that is not there, damaged, or without a column."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there")
    if why := fault(file):
        raise ValueError(why)
    line, first = next(records(file, needed), (1, {}))
    if isinstance(first, RowError):
        raise ValueError(f"{file}:{line}: {first}")
    if first and (missing := [name for name in needed if name not in first]):
        raise ValueError(f"{file}:{line}: missing {', '.join(missing)}; there are {', '.join(first)}")


def _column(file: Path, name: str, needed: Sequence[str] = ()) -> list[Any]:
    """Read a column; what is empty is left out."""
    values = []
    for line, fields in records(file, needed):
        if isinstance(fields, RowError):
            raise ValueError(f"{file}:{line}: {fields}")
        if (value := fields.get(name)) not in (None, ""):
            values.append(value)
    return values


def _has_labels(file: Path, label: str, kind: str, labels: Sequence[str]) -> bool:
    """Whether a file has labels, all of them known; others, such as -1 or ?, stand for none."""
    cells = _column(file, label)
    if kind == "regression":
        return bool(cells) and all(math.isfinite(_number(cell)) for cell in cells)
    return bool(cells) and all(word in labels for cell in cells for word in label_words(cell, kind == "multi"))


def _settled(plain: Mapping[str, Any], file: Path, needed: Sequence[str], where: str) -> tuple[str, tuple[str, ...]]:
    """Settle kind and classes: what the task file says, else what the labels of the training rows look like."""
    kind, labels = plain.get("kind"), plain.get("labels")
    if kind not in (None, *METRICS):
        raise ValueError(f"{where}: kind must be one of {', '.join(METRICS)}, got {kind}")
    if kind == "regression":
        if labels:
            raise ValueError(f"{where}: a regression has no labels, got {', '.join(labels)}")
        return kind, ()
    if not (kind and labels):
        cells = _column(file, needed[-1], needed)
        if not cells:
            raise ValueError(f"{file}: the column {needed[-1]!r} is empty")
        kind = kind or kind_of(cells, bool(labels))
        labels = labels or ([] if kind == "regression" else classes(cells, kind == "multi"))
        if kind == "single" and "labels" not in plain and FEW <= len(cells) < 2 * len(labels):
            raise ValueError(
                f"{file}: {len(labels)} different labels {needed[-1]!r} in {len(cells)} rows: is it the label? If they "
                f"are scores, write kind: regression, if classes, labels: in {where}"
            )
    _check_labels(kind, labels, where)
    return kind, tuple(labels)


def _check_labels(kind: str, labels: Sequence[str], where: str) -> None:
    """Refuse classes that cannot be told apart."""
    if kind != "regression" and len(labels) < 2:
        raise ValueError(f"{where}: there is the label {', '.join(labels)} alone: nothing to tell apart")
    _check_signs(kind, labels, where)


def _check_signs(kind: str, labels: Sequence[str], where: str) -> None:
    """Refuse words that cannot be written into a table."""
    signs = r"[\t\r\n|]" if kind == "multi" else r"[\t\r\n]"
    if wrong := [name for name in labels if re.search(signs, name)]:
        raise ValueError(f"{where}: a class may hold no tab, line break{' or |' * (kind == 'multi')}: {wrong[0]!r}")


def kind_of(cells: Sequence[Any], named: bool = False) -> str:
    """Say what labels look like: lists are several, numbers with a fraction are scores, all else is classes.

    Args:
        cells: The labels.
        named: The classes are known.
    """
    if any(isinstance(cell, list) for cell in cells):
        return "multi"
    numbers = [_number(cell) for cell in cells]
    fractions = all(map(math.isfinite, numbers)) and any(not number.is_integer() for number in numbers)
    return "regression" if fractions and not named else "single"


def _number(cell: Any) -> float:
    """Read a number; nan if it is none."""
    try:
        return math.nan if isinstance(cell, bool) else float(cell)
    except (ValueError, TypeError, OverflowError):
        return math.nan


def classes(cells: Sequence[Any], multi: bool) -> list[str]:
    """List the different labels, sorted: whole numbers by their size."""
    found = {word for cell in cells for word in label_words(cell, multi)}
    whole = all(re.fullmatch(r"-?\d{1,18}", word) for word in found)
    return sorted(found, key=lambda word: (int(word) if whole else 0, word))


def to_json(task: Task) -> dict[str, Any]:
    """Give what a run keeps of a user's own task, all settled: a task file with whole paths, and `test_labels`."""
    values: dict[str, Any] = {"name": task.name, **dict(task.files), "kind": task.kind, "label": task.label}
    values |= {"text": list(task.text), "metrics": list(task.metrics), "test_labels": task.test_labels}
    values |= {key: list(words) for key, words in (("labels", task.labels), ("names", task.names)) if words}
    return values | (dict(zip(("split", "split_seed"), task.held_out, strict=True)) if task.held_out else {})


def task_of(folder: Path) -> Task | None:
    """Read the task that a run's folder keeps; None where it is of the project's table.

    Raises:
        ValueError: The file is damaged.
    """
    file = folder / TASK_JSON
    return read_task_file(file, {}) if file.is_file() else None


def said(task: Task) -> str:
    """Say what was taken of a user's own task; whole numbers look like classes, and may be scores."""
    if task.regression:
        return f"scores of {task.label!r}"
    what = f"{task.num_class} {'labels, any of which may hold,' if task.multi else 'classes'} of {task.label!r}"
    cure = ""
    if not task.multi and task.num_class > 2 and all(word.lstrip("-").isdecimal() for word in task.labels):
        cure = "; write kind: regression if these are scores"
    if not task.multi and any(SEVERAL in word for word in task.labels):
        cure = f"; write kind: multi if {SEVERAL} stands between several labels"
    return f"{what}: {some(task.labels)}{cure}"


def some(words: Sequence[str], most: int = 20) -> str:
    """List words, at most so many."""
    return ", ".join(words[:most]) + (f", and {len(words) - most} more" if len(words) > most else "")


def different_names(labels: Sequence[str]) -> list[tuple[str, ...]]:
    """Find classes whose names differ in case and blanks alone."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for label in labels:
        alike.setdefault(same_text([label]), []).append(label)
    return [tuple(names) for names in alike.values() if len(names) > 1]
