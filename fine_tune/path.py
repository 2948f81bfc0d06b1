"""Where things live: data, caches, runs, suites. Asking for a path creates nothing on disk."""

import os
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
TRANSFORMERS = ("bert", "albert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet", "deberta", "deberta-v2")
"""Families of encoders, by transformers' names for them; what is particular about each: `model.architectures`."""
STUDENTS = TRANSFORMERS[:2]
"""Students of any teacher."""
NETWORKS = ("glove-cnn", "densenet-cnn", "densenet-dsa")
"""On word vectors."""
ARCHITECTURES = (*TRANSFORMERS, *NETWORKS)
"""Of models, as they stand in the names of runs."""


def expanded(name: str) -> Path:
    """Put the home folder in the place of a leading `~` or `~user`.

    Raises:
        ValueError: The system does not know it.
    """
    path = os.path.expanduser(name)
    if path.startswith("~"):
        raise ValueError(f"{name}: there is no home folder that {name.split('/')[0]} stands for; give the whole path")
    return Path(path)


def data_dir() -> Path:
    """Root of everything read and written: `$DATA_DIR`, else `data/` beside the scripts.

    Raises:
        ValueError: See `expanded`.
    """
    return expanded(os.environ.get("DATA_DIR") or str(PROJECT / "data")).resolve()


def task_dir(folder: str) -> Path:
    """Folder with the files of one task."""
    return data_dir() / "fine_tune" / folder


def cache_dir() -> Path:
    """Folder of the tokenised splits; safe to delete at any time."""
    return data_dir() / "cache"


def experiment_name(experiment: str, model: str, task: str, flag: str = "--experiment") -> str:
    """Join the parts of a run's name, `<experiment>_<model>_<task>`.

    Raises:
        ValueError: The name could leave the experiment folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*", experiment):
        raise ValueError(f"{flag} may hold letters, digits and _ . + = - only, got {experiment!r}")
    return f"{experiment}_{model}_{task}"


def run_dir(experiment: str, model: str, task: str) -> Path:
    """Folder of one run: configuration, checkpoints, scores, predictions."""
    return data_dir() / "fine_tune_experiment" / experiment_name(experiment, model, task)


def distilled_file(run: str, task: str) -> Path:
    """Rows of a task with what the run of this folder name says of each, written by `run_fine_tune_gen_logits.py`."""
    safe = re.sub(r"[^A-Za-z0-9_.+=-]|^\.+", "_", run)  # it must not leave the experiment folder
    return data_dir() / "fine_tune_experiment" / safe / f"{task}-distill.jsonl"


def architecture_of(experiment: str, task: str) -> str:
    """Find the architecture of a run by its folder; the first one if there is no such run.

    Raises:
        ValueError: There are runs of this name of two architectures.
    """
    there = [model for model in ARCHITECTURES if run_dir(experiment, model, task).is_dir()]
    if len(there) > 1:
        folders = " and ".join(run_dir(experiment, model, task).name for model in there)
        raise ValueError(f"--experiment {experiment}: there are {folders}; say which with --model")
    return (there or ARCHITECTURES)[0]


def log_dir(experiment: str, model: str, task: str) -> Path:
    """TensorBoard folder of one run."""
    return data_dir() / "fine_tune_experiment" / "log" / experiment_name(experiment, model, task)


def task_of(run_dir: Path) -> str:
    """Name of the task of a run, read off its folder's name."""
    return run_dir.name.rpartition("_")[2]


def suite_dir(name: str) -> Path:
    """Folder of a comparison: its logs and its report."""
    experiment_name(name, "", "", "--suite")
    return data_dir() / "suites" / name
