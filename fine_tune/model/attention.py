"""Scaled dot-product attention on a CPU; transformers knows two kinds by the names `on_cpu` and `by_length`.

`on_cpu` writes the products out where torch's own function is slower: with dropout, for which torch draws a number per
attention weight, one after the other, and in bfloat16.

`by_length` attends within a padded batch as if there were no padding: rows of the same length together, no mask. So
what a sentence gets does not depend on the other sentences of its batch, to the last bit, as torch computes all rows of
a product alike on a CPU.
"""

import math
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from fine_tune.model.dropout import drop


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float | None
) -> Tensor:
    """Compute softmax(scaling query key^T) value, (B, H, S, D / H) all; `mask` (B, 1, S, S) is False for padding."""
    if not dropout and query.dtype == torch.float32:
        return F.scaled_dot_product_attention(query, key, value, mask, scale=scaling)
    scores = query @ key.transpose(-1, -2) * (scaling or query.shape[-1] ** -0.5)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return drop(scores.softmax(-1), dropout) @ value


def on_cpu(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend, see `by_length`; `attention_mask` (B, 1, S, S) is False for padding."""
    return attend(query, key, value, attention_mask, dropout, scaling).transpose(1, 2), None


def by_length(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    lengths: list[int] | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend; signature of transformers.

    Args:
        module: The attention layer.
        query: (B, H, S, D / H), and `key` and `value` alike.
        key: See `query`.
        value: See `query`.
        attention_mask: None.
        lengths: Real tokens of each row, the first ones; None if all are real.
        dropout: Probability of dropping an attention weight.
        scaling: Factor of the scores.

    Returns:
        (B, S, H, D / H), 0 for padding.
    """
    if lengths is None:
        return on_cpu(module, query, key, value, None, dropout, scaling)
    out, start = torch.zeros_like(query), 0
    for length, alike in groupby(lengths):
        rows = slice(start, start := start + len(list(alike)))
        q, k, v = (tensor[rows, :, :length] for tensor in (query, key, value))
        out[rows, :, :length] = attend(q, k, v, None, dropout, scaling)
    return out.transpose(1, 2), None


AttentionInterface.register("on_cpu", on_cpu)
AttentionInterface.register("by_length", by_length)
