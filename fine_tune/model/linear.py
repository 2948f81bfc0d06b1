"""Linear layers whose float32 products oneDNN computes, on processors with AVX-512.

For float32 torch calls MKL, which on processors of other makers than Intel keeps to AVX2: half the rate or less. The
format is the same, float32 throughout; sums are taken in another order. Everything else (GPUs, bfloat16, torch.compile,
processors without AVX-512) goes torch's way, which is oneDNN for bfloat16 anyhow.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

AVAILABLE = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute rows (..., I) times the transpose of weight (O, I), plus bias (O,): (..., O)."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


class Product(torch.autograd.Function):
    """`product` with a gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `product`."""
        rows = rows.contiguous()  # with gaps between its rows, the weight's gradient takes a hundred times longer
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of rows, weight and bias, those that are wanted."""
        rows, weight = ctx.saved_tensors
        wants_rows, wants_weight, wants_bias = ctx.needs_input_grad
        flat = grad.flatten(0, -2)  # (N, O)
        return (
            product(grad, weight.t()) if wants_rows else None,
            product(flat.t(), rows.flatten(0, -2).t()) if wants_weight else None,
            flat.sum(0) if wants_bias else None,
        )


class Linear(nn.Linear):
    """Drop-in for `nn.Linear`."""

    def forward(self, rows: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        other = rows.dtype != torch.float32 or rows.device.type != "cpu" or torch.is_autocast_enabled("cpu")
        if other or not AVAILABLE or torch.compiler.is_compiling():
            return F.linear(rows, self.weight, self.bias)
        return Product.apply(rows, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]
