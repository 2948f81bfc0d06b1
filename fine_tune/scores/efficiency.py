"""Size and speed of models: parameters, operations, time per call."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedConfig

from fine_tune.data.tokens import Inputs, Split
from fine_tune.hardware.device import to_device
from fine_tune.model.architectures import setting
from fine_tune.model.classifier import Classifier

BLOCK = 20
"""Calls of one contender in turn; in turns of single calls each would find the caches cold."""
WARM_UP = 10
"""Calls that are not timed."""
ATTENTIVE = ("bert", "albert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet")
"""Architectures that `operations` counts."""


def parameters(model: nn.Module) -> int:
    """Count a model's parameters."""
    return sum(weights.numel() for weights in model.parameters())


def in_embeddings(model: nn.Module) -> int:
    """Count a model's parameters in tables of vectors: of words, positions, segments."""
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Embedding))


def operations(config: PreTrainedConfig, tokens: int, num_class: int) -> int | None:
    """Count the floating-point operations of matrix products for one text; None where the formula does not hold.

    2 [L (S (4 D^2 + 2 D F) + 2 S^2 D) + D^2 + D C], with L layers, S tokens, width D, inner width F, C classes; an
    ALBERT's embeddings of width E take 2 S E D more.
    """
    if config.model_type not in ATTENTIVE:
        return None
    layers, width, inner = config.num_hidden_layers, config.hidden_size, int(setting(config, "intermediate_size"))
    layer = tokens * (4 * width**2 + 2 * width * inner) + 2 * tokens**2 * width
    embedding = getattr(config, "embedding_size", width) or width
    widened = tokens * embedding * width if embedding != width or config.model_type == "albert" else 0
    return int(2 * (layers * layer + width**2 + width * num_class + widened))


def classify_on(model: Classifier, device: torch.device) -> Callable[[Inputs], NDArray[np.float32]]:
    """Give what turns inputs into logits (B, C) by a model that is on a device; reading them waits for it."""

    @torch.no_grad()
    def classify(inputs: Inputs) -> NDArray[np.float32]:
        found: NDArray[np.float32] = model.eval()(**inputs).logits.cpu().numpy()
        return found

    return classify


def calls(
    classify: Callable[[Inputs], object],
    split: Split,
    count: int,
    batch_size: int = 1,
    device: torch.device | None = None,
) -> list[Callable[[], object]]:
    """Prepare calls that classify a split's first batches, each in the order of the file and padded to its longest row.

    Args:
        classify: What is called.
        split: The rows; after the last one comes the first again.
        count: Calls.
        batch_size: Rows of each.
        device: Where inputs are put beforehand.
    """
    rows = np.arange(count * batch_size).reshape(count, -1) % len(split)
    return [partial(classify, to_device(split.inputs(some), device or torch.device("cpu"))) for some in rows]


def milliseconds_per_sentence(
    models: Sequence[Classifier], splits: Sequence[Split], count: int, device: torch.device
) -> list[float]:
    """Median time of one row per model, see `timed_in_turns`.

    Args:
        models: The models.
        splits: The same rows in the tokens of each model; the first `count` are timed.
        count: Rows.
        device: Where the models are.
    """
    count = min(count, len(splits[0]))
    contenders = [
        calls(classify_on(model, device), split, count, device=device)
        for model, split in zip(models, splits, strict=True)
    ]
    return [float(np.median(times)) for times in timed_in_turns(contenders)]


def timed_in_turns(contenders: Sequence[Sequence[Callable[[], object]]]) -> list[NDArray[np.float64]]:
    """Time calls, in milliseconds; the contenders take turns in blocks, so that a busy machine hurts all alike.

    Args:
        contenders: The calls of each, the same number; each does all its work, and waits for its device.

    Returns:
        The times of every contender's calls.
    """
    times: list[list[float]] = [[] for _ in contenders]
    for at in range(0, max(map(len, contenders)), BLOCK):
        for work, taken in zip(contenders, times, strict=True):
            for call in work[:WARM_UP] if at == 0 else work[:1]:
                call()
            for call in work[at : at + BLOCK]:
                start = time.perf_counter()
                call()
                taken.append(1000 * (time.perf_counter() - start))
    return [np.array(taken) for taken in times]
