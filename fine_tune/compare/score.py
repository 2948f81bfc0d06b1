"""Score a suite: which checkpoints count, their predictions, their size and speed, and what the results depend on.

Only here, once all runs are there, is the split read that results are reported on, with those checkpoints only.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fine_tune.compare.results import prediction_file, read_prediction, score
from fine_tune.compare.suite import TEACHER, Row, Run, Suite, follows, read_if_there
from fine_tune.compare.train import call
from fine_tune.data.tokens import Split, load_split
from fine_tune.files import write_json
from fine_tune.flags.parser import Flags
from fine_tune.flags.saved import load_config
from fine_tune.flags.shared import TeacherRef
from fine_tune.hardware.device import resolve_device
from fine_tune.model.checkpoint import list_checkpoints, pick_checkpoint
from fine_tune.model.load import Loaded, has_own_tokenizer, load_run
from fine_tune.model.placement import place
from fine_tune.path import run_dir
from fine_tune.scores import predict as predictions
from fine_tune.scores.efficiency import milliseconds_per_sentence, parameters
from fine_tune.scores.metrics import best_checkpoints
from fine_tune.tasks.table import Task

BATCH_SIZE = 128
SENTENCES = 200


def teacher_flags(teacher_exp: str, tmodel: str | None, tckpt: int | None, task: Task) -> dict[str, Any]:
    """Check the flags of the teacher, and settle its architecture and its checkpoint.

    Raises:
        ValueError: There is no such architecture, or its configuration is damaged.
        FileNotFoundError: There is no such run or checkpoint.
    """
    ref = TeacherRef(teacher_exp=teacher_exp, tmodel=tmodel, tckpt=tckpt)
    tmodel, folder = ref.architecture(task.name), ref.folder(task.name)
    load_config(folder, "--teacher_exp")
    return {"teacher_exp": teacher_exp, "tmodel": tmodel, "tckpt": pick_checkpoint(folder, tckpt, "--tckpt")}


def score_slice(suite: Suite, runs: Sequence[Run], lock: int) -> None:
    """Score all checkpoints of runs on `train_select`, where that is missing."""
    for run in runs:
        if not all(file.is_file() for file in slice_files(run).values()) and not suite.report_only:
            words = ["--experiment", run.experiment, "--task", suite.task_flag, "--dataset", "train_select"]
            words += [] if suite.device_id is None else ["--device_id", str(suite.device_id)]
            call(suite, "run_fine_tune_eval", words, f"{run.experiment}-train_select", "scores", lock)


def slice_files(run: Run) -> dict[int, Path]:
    """Name the predictions on `train_select` of every checkpoint."""
    return {step: run.folder / f"prediction_train_select-{step}.tsv" for step in list_checkpoints(run.folder)}


def slice_scores(suite: Suite, run: Run) -> dict[int, dict[str, float]]:
    """Compute the scores of every checkpoint on `train_select` from its predictions.

    Raises:
        FileNotFoundError: Predictions are missing.
    """
    return {step: score(read_prediction(file, suite.task), suite.task) for step, file in slice_files(run).items()}


class Choice(NamedTuple):
    """A checkpoint that counts."""

    experiment: str
    architecture: str
    folder: Path
    step: int


def choose(suite: Suite, runs: Sequence[Run]) -> dict[str, list[Choice]]:
    """Give the checkpoints of every row, seed by seed, the teacher's first: the best on `train_select`, or the last."""
    ref = suite.teacher
    folder = run_dir(ref["teacher_exp"], ref["tmodel"], suite.task.name)
    chosen = {TEACHER: [Choice(ref["teacher_exp"], ref["tmodel"], folder, ref["tckpt"])]}
    for run in runs:
        step = run.last_step
        if suite.select:
            step = best_checkpoints(slice_scores(suite, run), suite.task.metrics[0])[0][0]
        chosen.setdefault(run.row.name, []).append(Choice(run.experiment, run.asked["model"], run.folder, step))
    return chosen


def load_choice(suite: Suite, choice: Choice, tokenizer: Path) -> tuple[Loaded, Split]:
    """Load a checkpoint and the rows of the split; a teacher without a tokenizer has that of its students."""
    other = None if has_own_tokenizer(choice.folder) else str(tokenizer)
    loaded = load_run(choice.experiment, choice.architecture, suite.task, choice.step, other, "--tckpt")
    return loaded, load_split(suite.task, suite.split, loaded.tokenizer, loaded.max_seq_len)


def predict(suite: Suite, chosen: Mapping[str, list[Choice]]) -> dict[str, list[Path]]:
    """Predict the split with the checkpoints that count, and no others, where that is missing; give the files."""
    device = resolve_device(suite.device_id)
    tokenizer = next(choices[0].folder for row, choices in chosen.items() if row != TEACHER) / "tokenizer"
    for choice in (choice for choices in chosen.values() for choice in choices):
        file = prediction_file(choice.folder, suite.split, choice.step)
        if not file.is_file() and not suite.report_only:
            loaded, rows = load_choice(suite, choice, tokenizer)
            place(loaded.model, device, Flags({}))
            predictions.save_prediction(file, rows, predictions.predict(loaded.model, rows, BATCH_SIZE, device))
    return {
        row: [prediction_file(choice.folder, suite.split, choice.step) for choice in choices]
        for row, choices in chosen.items()
    }


def measure(suite: Suite, chosen: Mapping[str, list[Choice]]) -> dict[str, dict[str, Any]]:
    """Count the parameters and time the sentences of every row's first model, in turns; kept in `speed.json`."""
    file = suite.folder / "speed.json"
    firsts = {row: choices[0] for row, choices in chosen.items()}
    names = {
        row: f"{first.experiment} {first.step} {read_if_there(first.folder / 'run.json').get('start')}"
        for row, first in firsts.items()
    }
    kept = {row: speed for row, speed in read_if_there(file).items() if speed["model"] == names.get(row)}
    if suite.report_only or kept.keys() == names.keys():
        return kept
    device = resolve_device(suite.device_id)
    tokenizer = next(first.folder for row, first in firsts.items() if row != TEACHER) / "tokenizer"
    loaded = [load_choice(suite, first, tokenizer) for first in firsts.values()]
    models = [each.model.to(device) for each, _ in loaded]
    times = milliseconds_per_sentence(models, [rows for _, rows in loaded], SENTENCES, device)
    speeds = {
        row: {"model": names[row], "parameters": parameters(model), "milliseconds": ms}
        for row, model, ms in zip(firsts, models, times, strict=True)
    }
    write_json(file, speeds)
    return speeds


def facts(suite: Suite, runs: Sequence[Run], chosen: Mapping[str, list[Choice]], argv: Sequence[str]) -> dict[str, str]:
    """Collect what the results depend on."""
    begun = [read_if_there(run.folder / "run.json") for run in runs]
    about = [each for one in begun for each in (one, *one.get("resumed", []))]

    def all_of(key: str) -> str:
        return ", ".join(dict.fromkeys(str(each[key]) for each in about))

    def method(row: Row) -> str:
        name = row.name if row.name == row.method.name else f"{row.name}={row.method.name}"
        own = {"after": row.after} | row.settings if row.after else row.settings
        return " ".join([name, *(f"{key}={value}" for key, value in own.items())])

    ref, rows = suite.teacher, {run.row.name: run.row for run in runs}
    seen = read_if_there(chosen[TEACHER][0].folder / "config.json").get("dataset", "train")
    known = " (which the teacher was trained on)" if seen == "train" else ""
    updates = ", ".join(sorted({str(run.last_step) for run in runs}))
    for row in rows.values():
        updates += f"; {row.name} goes on from {row.after}, whose updates come before" if follows(row) else ""
    steps = "; ".join(f"{row} {', '.join(str(c.step) for c in own)}" for row, own in chosen.items() if row != TEACHER)
    return {
        "command": f"`{shlex.join(['python', *(word for word in argv if word != '--report_only')])}`",
        "commit": all_of("commit") + (" (runs of different code)" if "," in all_of("commit") else ""),
        "machine": f"{all_of('machine')}, GPUs {all_of('gpus').strip('[]') or 'none'}, torch {all_of('torch')}",
        "seeds": ", ".join(map(str, suite.seeds)),
        "updates of every student": updates,
        "teacher": f"{ref['teacher_exp']}, checkpoint {ref['tckpt']}, trained on {seen}",
        "rows": "; ".join(map(method, rows.values())),
        "checkpoints": f"the best on train_select{known}: {steps}" if suite.select else "the last",
    }
