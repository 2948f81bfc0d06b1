"""A comparison of methods: its rows, and the command lines of its runs.

A suite has rows, each a method with its settings, and runs each row with each seed as the experiment SUITE-ROW-SEED.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fine_tune.files import digest, read_json
from fine_tune.flags.parser import Parser
from fine_tune.flags.shared import RunConfig, SourceConfig
from fine_tune.path import experiment_name, run_dir, suite_dir
from fine_tune.tasks.table import AUGMENTED, Task
from fine_tune.train.methods import METHODS, Method, method_named, method_parser

OWN = {
    *("experiment", "task", "model", "dataset", "seed", "ckpt_step", "device_id"),
    *("overwrite", "resume", "dry_run", "keep_last"),
    *("teacher_exp", "tmodel", "tckpt", "tdevice_id", "total_step", "epoch", "from_config", "help"),
    *("src_experiment", "src_ckpt"),
}
"""Flags that are the suite's to give."""
TEACHER = "teacher"
"""Row of the teacher in every table."""
LAST_ONLY = 10**9
"""`ckpt_step` of a run that needs its last checkpoint only."""


@dataclass
class Row:
    """A row of the comparison.

    Attributes:
        name: Its name.
        method: Its method.
        settings: Flags that are not the script's defaults.
        after: Row whose run, of the same seed, it continues, or learns from in the teacher's place; "" for none.
    """

    name: str
    method: Method
    settings: dict[str, str] = field(default_factory=dict)
    after: str = ""


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
        jobs: Runs at a time.
        task_flag: What the runs are given as their task: its name, or a task file.
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
    jobs: int = 1
    task_flag: str = ""

    def __post_init__(self) -> None:
        self.folder = suite_dir(self.name)
        self.task_flag = self.task_flag or self.task.name
        home = run_dir(self.teacher["teacher_exp"], self.teacher["tmodel"], self.task.name)
        self.teacher_sha256 = digest(home / f"model-{self.teacher['tckpt']}.pt")
        if self.split not in self.task.dev:
            splits = " or ".join(self.task.dev)
            raise ValueError(f"--dataset {self.split}: must be a dev split of {self.task.name}, {splits}")
        deciding, two = self.task.metrics[0], self.task.num_class == 2
        if not (deciding in ("accuracy", "pearson", "micro_f1") or (two and deciding in ("f1", "matthews"))):
            told = f"{self.task.name} is decided by {deciding} of {self.task.num_class} classes"
            raise ValueError(f"{told}, for which pairs are not tested; name another first in metrics: of its task file")
        if not self.report_only:
            self.task.file(self.split)


class Run(NamedTuple):
    """A run of a suite: a row with a seed.

    Attributes:
        row: The row.
        seed: The seed.
        experiment: Its name.
        folder: Its folder.
        words: The command line that makes it.
        asked: What its script reads from that, and the script.
        files: Commands that write what it reads, script and words.
    """

    row: Row
    seed: int
    experiment: str
    folder: Path
    words: list[str]
    asked: dict[str, Any]
    files: list[tuple[str, list[str]]]

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

    ROW.after=OTHER is no flag of a script: see `Row`.

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
        if key == "after":
            set_after(rows, name, value, f"--set {setting}")
            continue
        given = [set_flag(row, key, value, f"--set {setting}") for row in rows if name in ("", row.name)]
        if not any(given):
            raise ValueError(f"--set {setting}: no script of {name or 'these rows'} has the flag --{key}")


def follows(row: Row) -> bool:
    """Whether a row's method continues a student."""
    return SourceConfig in row.method.groups


def set_after(rows: Sequence[Row], name: str, other: str, origin: str) -> None:
    """Let a row go on from, or learn from, an earlier one.

    Raises:
        ValueError: There is no such row before it, or its method can do neither.
    """
    before = list(itertools.takewhile(lambda row: row.name != name, rows))
    if not name or other not in {row.name for row in before}:
        raise ValueError(f"{origin}: write ROW.after=OTHER, where OTHER stands before ROW in --methods")
    row = rows[len(before)]
    if not follows(row) and ("run_fine_tune_gen_logits",) not in row.method.files:
        able = ", ".join(method.name for method in METHODS.values() if SourceConfig in method.groups)
        raise ValueError(f"{origin}: {row.method.name} has no use for it, as {able} and offline have")
    row.after = other


def set_flag(row: Row, key: str, value: str, origin: str) -> bool:
    """Give a row a setting; False if its script has no such flag.

    Raises:
        ValueError: The suite or the method decides on it, or a switch gets a value.
    """
    action = script_parser(row.method)._option_string_actions.get(f"--{key}")
    if action is None:
        return False
    name = next(spelling[2:] for spelling in action.option_strings if spelling.startswith("--"))
    if (name in OWN and (name, value) != ("dataset", AUGMENTED)) or name in row.method.fixed:
        raise ValueError(f"{origin}: {name} is given by the {'suite' if name in OWN else 'method ' + row.method.name}")
    if action.nargs == 0 and value != "true":
        raise ValueError(f"{origin}: --{name} is a switch, its only value is true")
    row.settings[name] = value
    return True


def plan(suite: Suite, row: Row, seed: int, ckpt_step: int | None) -> Run:
    """Write the command line of one run, and have the script's own parser and ranges check it.

    Raises:
        ValueError: Its flags are not in their range, or it is not said what it continues.
    """
    experiment = f"{suite.name}-{row.name}-{seed}"
    split = "train_fit" if suite.select else "train"
    taught = suite.teacher
    if row.after:
        earlier = next(other for other in suite.rows if other.name == row.after)
        taught = {"teacher_exp": f"{suite.name}-{row.after}-{seed}", "tmodel": earlier.settings.get("model", "bert")}
    elif follows(row):
        raise ValueError(f"row {row.name}: say which row it continues: --set {row.name}.after=OTHER")
    values = {"experiment": experiment, "task": suite.task.name, **suite.teacher, "seed": seed, "dataset": split}
    values |= suite.duration | {"ckpt_step": ckpt_step, "device_id": suite.device_id}
    values["src_experiment"] = taught["teacher_exp"]
    if ("run_fine_tune_gen_logits",) in row.method.files:
        values["dataset"] = experiment_name(taught["teacher_exp"], taught["tmodel"], suite.task.name)
    if suite.select and row.settings.get("dataset") == AUGMENTED:
        raise ValueError(f"row {row.name}: copies of all training rows, train_select's too: choose nothing there")
    parser = script_parser(row.method)
    known = {key: value for key, value in values.items() if f"--{key}" in parser._option_string_actions}
    words = [word for key, value in known.items() if value is not None for word in (f"--{key}", str(value))]
    for key, value in {**row.method.fixed, **row.settings}.items():
        words += [f"--{key}"] if value == "true" else [f"--{key}", value]
    args = parser.parse_args(words)
    folder = parser.flags(args)[RunConfig].folder
    words[words.index("--task") + 1] = suite.task_flag
    asked = vars(args) | {"script": row.method.script, "teacher_sha256": suite.teacher_sha256}
    about = {"experiment": taught["teacher_exp"], "model": taught["tmodel"], "task": suite.task_flag, "dataset": split}
    about |= {"ckpt": taught.get("tckpt"), "device_id": suite.device_id}
    of = [word for key, value in about.items() if value is not None for word in (f"--{key}", str(value))]
    files = [(script, [*of, *own]) for script, *own in row.method.files]
    return Run(row, seed, experiment, folder, words, asked, files)


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
