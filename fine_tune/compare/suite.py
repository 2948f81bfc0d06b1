"""A comparison of methods: its rows, and the command lines of its runs.

A suite has rows, each a method with its settings, and runs each row with each seed as the experiment SUITE-ROW-SEED.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fine_tune.files import digest, read_json
from fine_tune.flags.parser import Parser
from fine_tune.flags.shared import RunConfig
from fine_tune.path import experiment_name, run_dir, suite_dir
from fine_tune.tasks.table import Task
from fine_tune.train.methods import Method, method_named, method_parser

OWN = {
    *("experiment", "task", "model", "dataset", "seed", "ckpt_step", "device_id"),
    *("overwrite", "resume", "dry_run", "keep_last"),
    *("teacher_exp", "tmodel", "tckpt", "tdevice_id", "total_step", "epoch", "from_config", "help"),
}
"""Flags that are the suite's to give."""
TEACHER = "teacher"
"""Row of the teacher in every table."""
LAST_ONLY = 10**9
"""`ckpt_step` of a run that needs its last checkpoint only."""


@dataclass
class Row:
    """A row of the comparison: its name, its method, and the settings that are not the script's defaults."""

    name: str
    method: Method
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class Suite:
    """What is compared.

    Attributes:
        name: Name of the suite.
        task: Its task.
        teacher: `teacher_exp`, `tmodel`, `tckpt`.
        rows: The rows.
        seeds: Seeds of every row.
        duration: `epoch` and `total_step` of every run, one of them or both None.
        split: Split to score at the end, once.
        select: Whether checkpoints are chosen on `train_select`, and students trained on the rest, `train_fit`.
        ckpt_step: Updates between two checkpoints; None for the scripts' default.
        device_id: Device of every run.
        overwrite: Replace runs that were made otherwise.
        report_only: Nothing is trained, scored or timed.
    """

    name: str
    task: Task
    teacher: dict[str, Any]
    rows: list[Row]
    seeds: list[int]
    duration: dict[str, Any]
    split: str
    select: bool
    ckpt_step: int | None
    device_id: int | None
    overwrite: bool
    report_only: bool

    def __post_init__(self) -> None:
        self.folder = suite_dir(self.name)
        home = run_dir(self.teacher["teacher_exp"], self.teacher["tmodel"], self.task.name)
        self.teacher_sha256 = digest(home / f"model-{self.teacher['tckpt']}.pt")
        if self.split not in self.task.dev:
            splits = " or ".join(self.task.dev)
            raise ValueError(f"--dataset {self.split}: must be a dev split of {self.task.name}, {splits}")
        if not self.report_only:
            self.task.file(self.split)


class Run(NamedTuple):
    """A run of a suite: a row with a seed, the command line that makes it, the script and what it reads from that."""

    row: Row
    seed: int
    experiment: str
    folder: Path
    words: list[str]
    asked: dict[str, Any]

    @property
    def last_step(self) -> int:
        """Number of its updates, which is that of its last checkpoint."""
        return int(read_json(self.folder / "config.json")["total_step"])


def read_if_there(file: Path) -> dict[str, Any]:
    """Read a JSON object; {} where there is no file."""
    return read_json(file) if file.is_file() else {}


def script_parser(method: Method) -> Parser:
    """Give the parser of a method's script."""
    parser = method_parser(method.script, None)
    parser.prog = f"{method.script}.py"
    return parser


def parse_rows(methods: str) -> list[Row]:
    """Read `--methods`: METHOD or NAME=METHOD, separated by commas; a row without a name has its method's, as typed.

    Raises:
        ValueError: An unknown method, or a name that is taken.
    """
    rows: list[Row] = []
    for part in methods.split(","):
        name, _, method = part.rpartition("=")
        try:
            row = Row(name or method, method_named(method))
        except ValueError as error:
            raise ValueError(f"--methods {part}: {error}") from None
        experiment_name(row.name, "", "", "--methods")
        if row.name in {TEACHER, *(other.name for other in rows)} or set(row.name) & set(".="):
            raise ValueError(f"--methods {part}: a row needs a name of its own, without . and =, NAME=METHOD")
        rows.append(row)
    return rows


def parse_seeds(seeds: str) -> list[int]:
    """Read `--seeds`: different numbers, separated by commas.

    Raises:
        ValueError: They are something else.
    """
    words = seeds.split(",")
    if not all(word.isdecimal() for word in words) or len({int(word) for word in words}) < len(words):
        raise ValueError(f"--seeds must be different numbers such as 1,2,3, got {seeds!r}")
    return [int(word) for word in words]


def apply_settings(rows: Sequence[Row], settings: Iterable[str]) -> None:
    """Give the rows their `--set`: key=value for every row whose script has the flag, ROW.key=value for one of them.

    Raises:
        ValueError: A row or flag that is not there, or a flag that the suite gives itself.
    """
    for setting in sorted(settings, key=lambda setting: "." in setting.partition("=")[0]):  # a row's own come last
        target, equals, value = setting.partition("=")
        name, _, key = target.rpartition(".")
        if not (equals and key and value):
            raise ValueError(f"--set {setting}: write key=value or ROW.key=value")
        if name and name not in {row.name for row in rows}:
            raise ValueError(f"--set {setting}: the rows are {', '.join(row.name for row in rows)}")
        given = [set_flag(row, key, value, f"--set {setting}") for row in rows if name in ("", row.name)]
        if not any(given):
            raise ValueError(f"--set {setting}: no script of {name or 'these rows'} has the flag --{key}")


def set_flag(row: Row, key: str, value: str, origin: str) -> bool:
    """Give a row a setting; False if its script has no such flag.

    Raises:
        ValueError: The suite or the method decides on it, or a switch gets a value.
    """
    action = script_parser(row.method)._option_string_actions.get(f"--{key}")
    if action is None:
        return False
    name = next(spelling[2:] for spelling in action.option_strings if spelling.startswith("--"))
    if name in OWN or name in row.method.fixed:
        raise ValueError(f"{origin}: {name} is given by the {'suite' if name in OWN else 'method ' + row.method.name}")
    if action.nargs == 0 and value != "true":
        raise ValueError(f"{origin}: --{name} is a switch, its only value is true")
    row.settings[name] = value
    return True


def plan(suite: Suite, row: Row, seed: int, ckpt_step: int | None) -> Run:
    """Write the command line of one run, and have the script's own parser and ranges check it."""
    experiment = f"{suite.name}-{row.name}-{seed}"
    split = "train_fit" if suite.select else "train"
    values = {"experiment": experiment, "task": suite.task.name, **suite.teacher, "seed": seed, "dataset": split}
    values |= suite.duration | {"ckpt_step": ckpt_step, "device_id": suite.device_id}
    words = [word for key, value in values.items() if value is not None for word in (f"--{key}", str(value))]
    for key, value in {**row.method.fixed, **row.settings}.items():
        words += [f"--{key}"] if value == "true" else [f"--{key}", value]
    parser = script_parser(row.method)
    args = parser.parse_args(words)
    folder = parser.flags(args)[RunConfig].folder
    asked = vars(args) | {"script": row.method.script, "teacher_sha256": suite.teacher_sha256}
    return Run(row, seed, experiment, folder, words, asked)


def plan_all(suite: Suite, rows: Sequence[Row], ckpt_step: int | None) -> list[Run]:
    """Plan every row with every seed, seed by seed, so that an early end leaves whole comparisons.

    Raises:
        ValueError: The rows would not get the same number of updates.
    """
    runs = [plan(suite, row, seed, ckpt_step) for seed in suite.seeds for row in rows]
    sizes = sorted({run.asked["batch_size"] for run in runs})
    if len(sizes) > 1 and suite.duration["total_step"] is None:
        raise ValueError(f"batch_size {' and '.join(map(str, sizes))} make epochs of unlike updates; give --total_step")
    return runs
