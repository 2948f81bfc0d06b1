"""LAD's gate block and the chain of gates that folds teacher layers into targets.

Shapes: B batch, S tokens, D width, L_t teacher layers. Source: Lin et al. 2023; released code.

    g_i = sigmoid(W_i a_{i-1} + b_i)                       opening: 1 lets the teacher layer through, 0 the aggregate
    a_i = layernorm_i(g_i * t_i + (1 - g_i) * a_{i-1})     a_1 = t_1

Departures:
1. The released code owns a block for the first layer which it never trains (an all-zero test inside `forward` skips
   it). Here the chain starts at layer 2 and there is no such block; `gate-0-STEP.pt` of a released run is ignored.
2. With a mask the layer norm's statistics are taken over real tokens only. Without one, padding counts (released).
3. Blocks beyond the highest layer that a student layer follows are not built: nothing would ever train them.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fine_tune.precision import autocast


class HighwayGate(nn.Module):
    """One gate block: `linear` (D -> D) and `layernorm` over tokens and width together.

    Args:
        dimension: D.
        seq_length: Largest S; the norm's affine weight and bias have one row per position.
    """

    product_dtype = torch.float32
    """Of the matrix product, see `precision`."""
    opening: Tensor | None = None
    """Mean of g over the real tokens of the last forward pass; a scalar without gradient."""

    def __init__(self, dimension: int, seq_length: int) -> None:
        """Make the block: Xavier-uniform weight, everything else PyTorch's default."""
        super().__init__()
        self.linear = nn.Linear(dimension, dimension)
        self.layernorm = nn.LayerNorm((seq_length, dimension))
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, previous: Tensor, current: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fold the teacher layer `current` into the aggregate `previous`.

        Args:
            previous: (B, S, D), the aggregate so far; the gate looks at this alone.
            current: (B, S, D), the next teacher layer.
            mask: (B, S), 1 for real tokens; None lets padding count.

        Returns:
            (B, S, D), the new aggregate; its values on masked tokens mean nothing.
        """
        with autocast(previous.device, self.product_dtype):
            g = torch.sigmoid(self.linear(previous).to(previous.dtype))
        mixed = torch.lerp(previous, current, g)
        norm, length = self.layernorm, mixed.shape[1]
        weight, bias = norm.weight[:length], norm.bias[:length]
        if mask is None:
            self.opening = g.detach().mean()
            return F.layer_norm(mixed, (length, mixed.shape[2]), weight, bias, norm.eps)
        real = mask.unsqueeze(-1)  # (B, S, 1)
        count = mask.sum(1).mul(mixed.shape[2]).view(-1, 1, 1)  # (B, 1, 1), real tokens times D
        self.opening = (g.detach().mean(-1) * mask).sum() / mask.sum()
        mean = (mixed * real).sum((1, 2), keepdim=True) / count
        centred = mixed - mean
        variance = (centred.square() * real).sum((1, 2), keepdim=True) / count
        return centred * torch.rsqrt(variance + norm.eps) * weight + bias


class GateChain(nn.Module):
    """The chain of gate blocks from the first teacher layer up, or, `reverse`, from the last one down.

    Args:
        dimension: D.
        seq_length: Largest S.
        teacher_layers: L_t.
        layer_map: 0-based teacher layer, hence aggregate, that each student layer learns.
        reverse: Run the chain from the last teacher layer down.
    """

    def __init__(
        self, dimension: int, seq_length: int, teacher_layers: int, layer_map: Sequence[int], reverse: bool = False
    ) -> None:
        """Build a block for every teacher layer after the first of the chain, as far as the map needs it."""
        super().__init__()
        self.layer_map = list(layer_map)
        up, down = range(max(layer_map) + 1), range(teacher_layers - 1, min(layer_map) - 1, -1)
        self.order = list(down if reverse else up)
        self.blocks = nn.ModuleDict({str(layer): HighwayGate(dimension, seq_length) for layer in self.order[1:]})

    def forward(
        self, states: Mapping[int, Tensor] | Sequence[Tensor], mask: Tensor | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Give the target of each student layer.

        Args:
            states: Teacher layers (B, S, D) by their 0-based number, without the embedding output; those of `order`.
            mask: (B, S), 1 for real tokens; None if all are, or to let padding count.

        Returns:
            L_s targets (B, S, D), and the mean opening of every gate by 1-based teacher layer.
        """
        aggregate = states[self.order[0]].float()
        aggregates = {self.order[0]: aggregate}
        for layer in self.order[1:]:
            aggregate = self.blocks[str(layer)](aggregate, states[layer].float(), mask)
            aggregates[layer] = aggregate
        openings = {f"gate_{int(layer) + 1}": cast(Tensor, block.opening) for layer, block in self.blocks.items()}
        return [aggregates[layer] for layer in self.layer_map], openings
