"""What an export loses: the largest difference of a logit over inputs of five shapes, and scores on labelled rows.

Shapes: B batch, S tokens, C classes.
"""

import inspect
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from fine_tune.data.tokens import Inputs, Split
from fine_tune.export.lean import Run
from fine_tune.export.onnx import classify
from fine_tune.model.load import Loaded
from fine_tune.scores.predict import of_like_length

LARGEST = 1e-4
"""Difference of a logit in float32 from which on an export is refused."""
SHAPES = ((1, 2), (1, 128), (2, 13), (5, 30), (8, 64))
"""B and S; S is cut at the model's own length."""

Logits = Callable[[Inputs], NDArray[np.float32]]
"""What gives logits (B, C) of inputs (B, S)."""


def examples(loaded: Loaded) -> list[Inputs]:
    """Draw inputs of five shapes, always the same; in a batch every second row ends with padding."""
    draw = np.random.default_rng(0)
    made: list[Inputs] = []
    for rows, most in SHAPES:
        tokens = min(most, loaded.max_seq_len)
        ids = draw.integers(0, loaded.model.encoder.config.vocab_size, (rows, tokens))
        mask = torch.ones(rows, tokens)
        mask[1::2, -(-tokens // 2) :] = 0
        made.append(
            {
                "input_ids": torch.from_numpy(ids),
                "attention_mask": None if mask.all() else mask,
                "token_type_ids": torch.zeros(rows, tokens, dtype=torch.int64),
            }
        )
    return made


def largest_difference(loaded: Loaded, logits: Logits) -> float:
    """Compare logits with those of the run's own model."""
    own = by_model(loaded)
    return max(float(np.abs(own(inputs) - logits(inputs)).max()) for inputs in examples(loaded))


def by_model(loaded: Loaded) -> Logits:
    """Give the logits of a run's model."""

    @torch.no_grad()
    def logits(inputs: Inputs) -> NDArray[np.float32]:
        found: NDArray[np.float32] = loaded.model(**inputs).logits.numpy()
        return found

    return logits


def by_transformers(model: PreTrainedModel) -> Logits:
    """Give the logits of one of the library's models; its inputs are those that it takes."""
    takes = inspect.signature(model.forward).parameters

    @torch.no_grad()
    def logits(inputs: Inputs) -> NDArray[np.float32]:
        given = {name: value for name, value in inputs.items() if name in takes and value is not None}
        found: NDArray[np.float32] = model(**given).logits.cpu().numpy()
        return found

    return logits


def split_logits(run: Run, split: Split, batch_size: int) -> Tensor:
    """Give the logits (N, C) of every row by an ONNX model, in the order of the file."""
    logits = torch.zeros(len(split), split.task.num_class)
    for rows in of_like_length(split, batch_size):
        logits[rows] = torch.from_numpy(classify(run, split.inputs(rows)))
    return logits
