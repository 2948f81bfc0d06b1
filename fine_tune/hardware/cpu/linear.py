"""Linear layers for a CPU: float32 by oneDNN, blocks of rows, gradients of weights gathered in float32.

For float32 torch calls MKL, which uses only AVX2 on processors that are not Intel's: half the rate or less. With
AVX-512 oneDNN is faster; torch calls it for bfloat16 anyway. The format stays float32; sums are taken in another order.
Rows come in blocks (see `row_blocks`), and the parts of a weight's gradient are added up in float32. GPUs,
torch.compile, and float32 without AVX-512 use torch's own product.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fine_tune.hardware.cpu.row_blocks import ROWS, by_block, computed

LEAST_ROWS = 64
"""Fewer are filled up: for up to 32 of them oneDNN sums in another order, on AMD's processors for one, and a row's
result would depend on how many others there are."""

AVAILABLE = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute rows (N, I) times the transpose of weight (O, I), plus bias (O,): (N, O)."""
    if rows.dtype != torch.float32:
        return F.linear(rows, weight, bias)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


def outer(grad: Tensor, rows: Tensor) -> Tensor:
    """Sum the products of grad (N, O) and rows (N, I) over N: (O, I)."""
    return product(grad.t(), rows.t()) if rows.dtype == torch.float32 else grad.t() @ rows


class Product(torch.autograd.Function):
    """`product` with a gradient, in a precision of its own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """See `product`; rows (..., I), computed in `dtype`."""
        # Contiguous: with gaps between its rows, the weight's gradient takes a hundred times longer.
        low, low_weight = rows.to(dtype).contiguous(), weight.to(dtype)
        ctx.save_for_backward(low, low_weight)
        flat = low.flatten(0, -2)
        if (count := len(flat)) < LEAST_ROWS and dtype == torch.float32:
            flat = F.pad(flat, (0, 0, 0, LEAST_ROWS - count))
        result = by_block(product, (flat,), low_weight, None if bias is None else bias.to(dtype))
        return result[:count].view(*rows.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Gradients of rows, weight and bias, those that are wanted; autograd turns them into the format of each."""
        rows, weight = ctx.saved_tensors
        wants_rows, wants_weight, wants_bias, _ = ctx.needs_input_grad
        flat = grad.flatten(0, -2).contiguous()  # (N, O)
        of_rows = by_block(product, (flat,), weight.t()).view(rows.shape) if wants_rows else None
        of_weight = weight_gradient(flat, rows.flatten(0, -2)) if wants_weight else None
        return of_rows, of_weight, flat.sum(0) if wants_bias else None, None


def weight_gradient(grad: Tensor, rows: Tensor) -> Tensor:
    """Sum the products of grad (N, O) and rows (N, I) over all rows: (O, I), float32."""
    total: Tensor | None = None
    for part, of_rows in zip(grad.split(ROWS), rows.split(ROWS), strict=True):
        block = computed(outer, part, of_rows)
        total = block.float() if total is None else total.add_(block)
    assert total is not None
    return total


class Linear(nn.Linear):
    """Drop-in for `nn.Linear`."""

    def forward(self, rows: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else rows.dtype
        by_onednn = dtype == torch.bfloat16 or (dtype == torch.float32 and AVAILABLE)
        if rows.device.type != "cpu" or not by_onednn or torch.compiler.is_compiling():
            return F.linear(rows, self.weight, self.bias)
        return Product.apply(rows, self.weight, self.bias, dtype)  # type: ignore[no-any-return, no-untyped-call]
