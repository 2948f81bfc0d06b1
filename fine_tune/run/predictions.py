"""Predictions of a run's checkpoint on a test split, in the files that a benchmark's server and its user want."""

from pathlib import Path

import torch

from fine_tune.data.tokens import load_split
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import EvalConfig
from fine_tune.model.checkpoint import list_checkpoints
from fine_tune.model.load import load_run
from fine_tune.model.placement import place
from fine_tune.run.history import read_scores
from fine_tune.run.preflight import check_run, way_out
from fine_tune.scores.predict import predict, save_prediction, save_submission
from fine_tune.tasks.named import task_named
from fine_tune.tasks.table import Task


def best_scored(folder: Path, task: Task) -> int | None:
    """Find the best checkpoint in the score files that `run_fine_tune_eval.py` left; None if there are none."""
    for split in task.dev:
        if (file := folder / f"eval_{split}.json").is_file():
            curve, there = read_scores(file).get(f"{split}/{task.metrics[0]}", {}), list_checkpoints(folder)
            return min(curve.keys() & there, key=lambda step: (-curve[step], step), default=None)
    return None


def write_predictions(flags: Flags, dataset: str, device: torch.device, step: int | None) -> None:
    """Predict a test split with a checkpoint (None: the best scored, else the last) and write both files.

    Raises:
        ValueError: The task has no such test split, or the run does not fit it.
        FileNotFoundError: No such run, checkpoint or data.
    """
    cfg = flags[EvalConfig]
    task = task_named(cfg.task)
    files = dict(task.submission)
    if dataset not in files:
        known = f"the test splits of {task.name} are {', '.join(files)}" if files else f"{task.name} has no test split"
        raise ValueError(f"--dataset {dataset}: {known}{'; its task file can name one' if task.files else ''}")
    if step is None:
        step = best_scored(cfg.folder, task)
    loaded = load_run(cfg.experiment, cfg.architecture, task, step, cfg.ptrain_ver, "--ckpt")
    if cfg.preflight:
        with way_out():
            check_run(loaded, task)
    place(loaded.model, device, flags)
    rows = load_split(task, dataset, loaded.tokenizer, loaded.max_seq_len)
    logits = predict(loaded.model, rows, cfg.batch_size, device)
    save_submission(loaded.folder / files[dataset], rows, logits)
    save_prediction(loaded.folder / f"prediction_{dataset}-{loaded.step}.tsv", rows, logits)
    print(f"{len(rows)} predictions of checkpoint {loaded.step}: {loaded.folder / files[dataset]}")
