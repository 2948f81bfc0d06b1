"""Size and speed of models."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from fine_tune.data.tokens import Split
from fine_tune.hardware.device import to_device
from fine_tune.model.classifier import Classifier

WARM_UP = 10
"""Rows that are not timed."""


def parameters(model: nn.Module) -> int:
    """Count a model's parameters."""
    return sum(weights.numel() for weights in model.parameters())


@torch.no_grad()
def milliseconds_per_sentence(
    models: Sequence[Classifier], splits: Sequence[Split], count: int, device: torch.device
) -> list[float]:
    """Median time of one row per model; the models take turns, so a busy machine hurts all alike.

    Args:
        models: The models.
        splits: The same rows in the tokens of each model; the first `count` are timed, after `WARM_UP` others.
        count: Rows.
        device: Where the models are.
    """
    times: list[list[float]] = [[] for _ in models]
    warm_up = min(WARM_UP, len(splits[0]))
    for row in [*range(warm_up), *range(min(count, len(splits[0])))]:
        for model, split, taken in zip(models, splits, times, strict=True):
            inputs = to_device(split.inputs(np.array([row])), device)
            model.eval()
            start = time.perf_counter()
            model(**inputs).logits.cpu()  # reading the result waits for the device
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.median(taken[warm_up:])) for taken in times]
