"""Scores and predictions: the metrics of every task, computed by scikit-learn and scipy on logits in row order."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fine_tune.data.tokens import Split
from fine_tune.hardware import distributed
from fine_tune.hardware import rank as process
from fine_tune.hardware.device import to_device
from fine_tune.losses import hard_target_loss
from fine_tune.model.classifier import Classifier
from fine_tune.path import write_text
from fine_tune.tasks.table import Task

Metric = Callable[[NDArray[Any], NDArray[Any]], float]


def metric(name: str) -> Metric:
    """Find a metric of (gold, prediction) by name; a constant prediction correlates with nothing: 0."""
    from scipy import stats  # imported here: half a second that training does not need
    from sklearn import metrics as sklearn_metrics

    def correlation(of: Callable[..., Any]) -> Metric:
        return lambda gold, guess: float(of(gold, guess)[0]) if np.ptp(guess) and np.ptp(gold) else 0.0

    table: dict[str, Metric] = {
        "accuracy": lambda gold, guess: float(np.mean(gold == guess)),
        "f1": lambda gold, guess: float(sklearn_metrics.f1_score(gold, guess, zero_division=0.0)),
        "matthews": lambda gold, guess: float(sklearn_metrics.matthews_corrcoef(gold, guess)),
        "pearson": correlation(stats.pearsonr),
        "spearman": correlation(stats.spearmanr),
    }
    return table[name]


@torch.no_grad()
def predict(model: Classifier, split: Split, batch_size: int, device: torch.device) -> torch.Tensor:
    """Give the logits (N, C) of every row, in the order of the file, on the CPU; long rows share batches.

    Several processes share the batches, and every one gets all logits.
    """
    model.eval()
    order = np.argsort(split.lengths, kind="stable")
    parts = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    logits = torch.zeros(len(split), split.task.num_class, device=device)
    for rows in parts[process.rank() :: process.world_size()]:
        logits[rows] = model(**to_device(split.inputs(rows), device)).logits
    return distributed.add_up(logits).cpu()


def decide(task: Task, logits: torch.Tensor) -> NDArray[Any]:
    """Turn logits (N, C) into class numbers, or into scores clipped to the task's range."""
    if task.regression:
        return logits[:, 0].clamp(*task.score_range).numpy()
    return logits.argmax(1).numpy()


def score(split: Split, logits: torch.Tensor) -> dict[str, float]:
    """Compute loss and metrics of a labelled split.

    Raises:
        ValueError: The split has no labels: GLUE keeps those of its test sets.
    """
    if split.label is None:
        raise ValueError(
            f"--dataset {split.name}: the labels of this split of {split.task.name} are not public, so it cannot be "
            "scored; generate_test_prediction.py writes its predictions"
        )
    gold = np.array(split.label)
    guess = logits[:, 0].numpy() if split.task.regression else decide(split.task, logits)
    loss = hard_target_loss(logits, torch.from_numpy(gold)).item()
    return {"loss": loss} | {name: metric(name)(gold, guess) for name in split.task.metrics}


def save_prediction(file: Path, split: Split, logits: torch.Tensor) -> None:
    """Write id, label (where there is one), prediction and logits of every row as a tab-separated table."""
    guess = decide(split.task, logits)
    columns: dict[str, Any] = {"id": split.row_id}
    if split.label is not None:
        columns["label"] = split.label
    columns |= {"prediction": guess} | {f"logit_{c}": logits[:, c].numpy() for c in range(logits.shape[1])}
    lines = ["\t".join(columns)] + ["\t".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    write_text(file, "\n".join(lines) + "\n")


def save_submission(file: Path, split: Split, logits: torch.Tensor) -> None:
    """Write predictions the way the benchmark's server takes them: GLUE's table, or SuperGLUE's JSON lines."""
    task, guess = split.task, decide(split.task, logits)
    words = [f"{value:.3f}" for value in guess] if task.regression else [task.labels[value] for value in guess]
    if file.suffix == ".jsonl":
        lines = [json.dumps({"idx": int(row), "label": word}) for row, word in zip(split.row_id, words, strict=True)]
    else:
        lines = ["index\tprediction"] + [f"{row}\t{word}" for row, word in enumerate(words)]
    write_text(file, "\n".join(lines) + "\n")


def best_checkpoints(scores: dict[int, dict[str, float]], name: str, count: int = 3) -> list[tuple[int, float]]:
    """Rank checkpoints by a metric, or by the lowest loss; the earlier one wins a tie."""
    ranked = sorted(scores, key=lambda step: (scores[step][name] * (1 if name == "loss" else -1), step))
    return [(step, scores[step][name]) for step in ranked[:count]]


@torch.no_grad()
def milliseconds_per_sentence(
    models: Sequence[Classifier], split: Split, count: int, device: torch.device
) -> list[float]:
    """Median time of one sentence per model; the models take turns, so a busy machine hurts all alike.

    Args:
        models: Models that read the same tokens.
        split: Where sentences come from; the first `count` rows are timed, after ten to warm up.
        count: Sentences.
        device: Where the models are.
    """
    times: list[list[float]] = [[] for _ in models]
    for row in [*range(min(10, len(split))), *range(min(count, len(split)))]:
        inputs = to_device(split.inputs(np.array([row])), device)
        for model, taken in zip(models, times, strict=True):
            model.eval()
            start = time.perf_counter()
            model(**inputs).logits.cpu()  # reading the result waits for the device
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.median(taken[min(10, len(split)) :])) for taken in times]
