"""Dropout with cheap masks on a CPU, where torch draws one number per value.

Here one draw of torch's generator serves four values, with 16 random bits each; so the probability is a multiple of
2^-16: 0.1 becomes 0.100006. torch.compile calls the same draws, as its own random numbers are as slow. On other devices
it is torch's dropout.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 16


def drop(values: Tensor, p: float) -> Tensor:
    """Zero values with probability `p`, and scale up the others."""
    if p == 0 or values.device.type != "cpu":
        return F.dropout(values, p)
    return scaled(values, drawn(values, p), p)


@torch.library.custom_op("fine_tune::drawn", mutates_args=(), tags=[torch.Tag.nondeterministic_seeded])
def drawn(values: Tensor, p: float) -> Tensor:
    """Draw a mask for values on a CPU; False with probability `p`.

    Tagged as random, so that torch.compile repeats the same draws where it recomputes in the backward pass.
    """
    count = values.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[:count].view(values.shape)  # uniform in -2^15 .. 2^15 - 1
    keep: Tensor = bits >= round(p * 2**BITS) - 2 ** (BITS - 1)
    return keep


@drawn.register_fake
def like_drawn(values: Tensor, p: float) -> Tensor:
    """Describe the result of `drawn` to torch.compile."""
    return values.new_empty(values.shape, dtype=torch.bool)  # in order, whatever the order of the values


def scaled(values: Tensor, keep: Tensor | None, p: float) -> Tensor:
    """Zero the values where `keep` is False, and scale up the others; None keeps all values as they are."""
    if keep is None:
        return values
    # Despite its name just what is wanted: values * keep * scale, in one pass.
    result: Tensor = torch.ops.aten.native_dropout_backward(values, keep, 1 / (1 - p))
    return result


class Dropout(nn.Dropout):
    """Drop-in for `nn.Dropout`."""

    def forward(self, values: Tensor) -> Tensor:
        """See `drop`; nothing outside of training."""
        return drop(values, self.p) if self.training else values
