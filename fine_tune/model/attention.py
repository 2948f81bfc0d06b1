"""Attention within a padded batch as if there were no padding: rows of the same length together, no mask.

Without a mask, and lengths apart, what a sentence gets does not depend on the other sentences of its batch, to the last
bit, on a CPU, where torch computes all rows of a product alike. Transformers knows it by the name `by_length`.
"""

from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface


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
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
        return out.transpose(1, 2), None
    out, start = torch.zeros_like(query), 0
    for length, alike in groupby(lengths):
        rows = slice(start, start := start + len(list(alike)))
        q, k, v = (tensor[rows, :, :length] for tensor in (query, key, value))
        out[rows, :, :length] = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
    return out.transpose(1, 2), None


AttentionInterface.register("by_length", by_length)
