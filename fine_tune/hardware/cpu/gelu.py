"""GELU in blocks of rows on a CPU, see `row_blocks`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.activations import GELUActivation

from fine_tune.hardware.cpu.row_blocks import by_block


class Blocks(torch.autograd.Function):
    """GELU of (..., D), by blocks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Map every value."""
        ctx.save_for_backward(values)
        return by_block(F.gelu, (values.flatten(0, -2),)).view(values.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Give the gradient of every value."""
        (values,) = ctx.saved_tensors
        rows = (grad.flatten(0, -2), values.flatten(0, -2))
        return by_block(torch.ops.aten.gelu_backward, rows).view(values.shape)


class Gelu(GELUActivation):  # type: ignore[misc]
    """Drop-in for transformers' module."""

    def forward(self, values: Tensor) -> Tensor:
        """Map every value."""
        if values.device.type != "cpu" or torch.compiler.is_compiling() or self.act is not F.gelu:
            result: Tensor = super().forward(values)
            return result
        return Blocks.apply(values)  # type: ignore[no-any-return, no-untyped-call]
