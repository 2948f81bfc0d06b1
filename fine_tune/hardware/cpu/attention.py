"""Scaled dot-product attention on a CPU, in the form in which transformers calls it: `on_cpu` and `by_length`.

`on_cpu` writes the products out where torch's own function is slower: with dropout, for which torch draws one number
per attention weight, and in bfloat16. There oneDNN multiplies, which builds a kernel for every shape; forward and
backward products share theirs, and lengths are rounded up to multiples of `LENGTHS`. torch.compile gets the formula.

`by_length` attends within a padded batch as if there were no padding: rows of the same length together, no mask. On a
CPU torch computes all rows of a product alike, so a sentence's result does not depend, to the last bit, on the other
sentences of its batch.
"""

import math
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fine_tune.hardware.cpu.dropout import drawn, drop, scaled
from fine_tune.hardware.cpu.row_blocks import computed

LENGTHS = 4
"""Multiple to which lengths are rounded up in bfloat16, so that oneDNN keeps fewer kernels."""


class Attention(torch.autograd.Function):
    """Attention with dropout of its weights and a gradient; B batch, H heads, S tokens, D width of a head."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float
    ) -> Tensor:
        """See `attend`."""
        tokens = query.shape[2]
        q, k, v = (lengthened(each) for each in (query, key, value))  # (B H, L, D), L >= S
        scores = computed(torch.bmm, q, k.transpose(1, 2)).mul_(scaling).view(*query.shape[:2], *[q.shape[1]] * 2)
        if mask is not None:
            scores[..., :tokens, :tokens].masked_fill_(~mask, -math.inf)
        scores[..., tokens:] = -math.inf
        weights = scores.softmax(-1)  # (B, H, L, L)
        keep = drawn(weights, dropout) if dropout else None
        kept = scaled(weights, keep, dropout)
        ctx.save_for_backward(q, k, v, weights, keep, kept)
        ctx.shape, ctx.dropout, ctx.scaling = query.shape, dropout, scaling
        return shortened(computed(torch.bmm, kept.flatten(0, 1), v), query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        q, k, v, weights, keep, kept = ctx.saved_tensors
        grad = lengthened(grad)
        of_value = computed(torch.bmm, kept.flatten(0, 1).transpose(1, 2), grad)
        of_weights = scaled(computed(torch.bmm, grad, v.transpose(1, 2)).view(weights.shape), keep, ctx.dropout)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype).mul_(ctx.scaling).flatten(0, 1)
        of_query, of_key = computed(torch.bmm, of_scores, k), computed(torch.bmm, of_scores.transpose(1, 2), q)
        return *(shortened(each, ctx.shape) for each in (of_query, of_key, of_value)), None, None, None


def lengthened(tensor: Tensor) -> Tensor:
    """Copy (B, H, S, D) to (B H, L, D), with zeros after the first S tokens; L is S in float32."""
    batch, heads, tokens, width = tensor.shape
    length = -(-tokens // LENGTHS) * LENGTHS if tensor.dtype == torch.bfloat16 else tokens
    if length == tokens:
        return tensor.reshape(-1, tokens, width)
    result = tensor.new_zeros(batch, heads, length, width)
    result[:, :, :tokens] = tensor
    return result.flatten(0, 1)


def shortened(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Undo `lengthened`, without a copy."""
    return tensor.view(*shape[:2], -1, shape[3])[:, :, : shape[2]]


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float | None
) -> Tensor:
    """Compute softmax(scaling query key^T) value, (B, H, S, D) all; `mask` (B, 1, S, S) is False for padding."""
    if not dropout and query.dtype == torch.float32:
        return F.scaled_dot_product_attention(query, key, value, mask, scale=scaling)
    scaling = scaling or query.shape[-1] ** -0.5
    if torch.compiler.is_compiling():
        scores = query @ key.transpose(-1, -2) * scaling
        weights = (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)
        return drop(weights, dropout) @ value
    arguments = (query, key, value, mask, dropout, scaling)
    return Attention.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]


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
