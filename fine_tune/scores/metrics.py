"""The metrics of every task, computed by scikit-learn and scipy on logits in row order."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fine_tune.data.tokens import Split
from fine_tune.losses import hard_target_loss
from fine_tune.tasks.table import Task

Metric = Callable[[NDArray[Any], NDArray[Any]], float]


def metric(name: str) -> Metric:
    """Find a metric of (gold, prediction) by name; a constant prediction correlates with nothing: 0."""
    from scipy import stats  # imported here: half a second that training does not need
    from sklearn import metrics as sklearn_metrics

    def correlation(of: Callable[..., Any]) -> Metric:
        return lambda gold, guess: float(of(gold, guess)[0]) if np.ptp(guess) and np.ptp(gold) else 0.0

    def f1(gold: NDArray[Any], guess: NDArray[Any]) -> float:
        """F1 of class 1 if there are two classes, as in GLUE; else the mean over classes."""
        average = "binary" if max(gold.max(), guess.max()) < 2 else "macro"
        return float(sklearn_metrics.f1_score(gold, guess, average=average, zero_division=0.0))

    def average_f1(average: str) -> Metric:
        options: dict[str, Any] = {"average": average, "zero_division": 0.0}
        return lambda gold, guess: float(sklearn_metrics.f1_score(gold, guess, **options))

    table: dict[str, Metric] = {
        "accuracy": lambda gold, guess: float(np.mean(right(gold, guess))),
        "f1": f1,
        "micro_f1": average_f1("micro"),
        "macro_f1": average_f1("macro"),
        "matthews": lambda gold, guess: float(sklearn_metrics.matthews_corrcoef(gold, guess)),
        "pearson": correlation(stats.pearsonr),
        "spearman": correlation(stats.spearmanr),
    }
    return table[name]


def right(gold: NDArray[Any], guess: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether predictions (.., N) are the gold labels (N,); of several labels (.., N, C), all of them."""
    same = np.asarray(gold == guess)
    return np.asarray(same.all(-1)) if gold.ndim == 2 else same


def decide(task: Task, logits: torch.Tensor) -> NDArray[Any]:
    """Turn logits (N, C) into class numbers, or into scores clipped to the task's range.

    Where several labels may hold, each is 1 if its sigmoid is above one half, else 0: (N, C).
    """
    if task.multi:
        return (logits > 0).long().numpy()
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


def best_checkpoints(scores: Mapping[int, Mapping[str, float]], name: str, count: int = 3) -> list[tuple[int, float]]:
    """Rank checkpoints by a metric, or by the lowest loss; the earlier one wins a tie."""
    ranked = sorted(scores, key=lambda step: (scores[step][name] * (1 if name == "loss" else -1), step))
    return [(step, scores[step][name]) for step in ranked[:count]]
