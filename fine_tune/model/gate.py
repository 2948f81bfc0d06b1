"""LAD's gate block, the chain of gates that folds teacher layers into targets, and LAD-NO's gates without a chain.

Shapes: B batch, S tokens, D width, L_t teacher layers. Source: Lin et al. 2023; released code.

    g_i = sigmoid(W_i a_{i-1} + b_i)                       opening: 1 lets the teacher layer through, 0 the aggregate
    a_i = layernorm_i(g_i * t_i + (1 - g_i) * a_{i-1})     a_1 = t_1; LAD-NO: t_{i-1} in place of a_{i-1}

Departures:
1. The released code owns a block for the first layer which it never trains (an all-zero test inside `forward` skips
   it). Here the chain starts at layer 2 and there is no such block; `gate-0-STEP.pt` of a released run is ignored.
2. With a mask the layer norm's statistics are taken over real tokens only. Without one, padding counts (released).
3. Blocks beyond the highest layer that a student layer follows are not built: nothing would ever train them.
4. Additions: `norm="token"` takes the statistics of every token by itself; `init_bias` opens or closes the gates at the
   start (released: PyTorch's bias, which leaves them half open); `calibrate` gives the norms the teacher's scale.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fine_tune.hardware.precision import autocast
from fine_tune.layer_map import LayerMap


class GateShape(NamedTuple):
    """What all gate blocks of a run have in common.

    Attributes:
        dimension: D.
        seq_length: Largest S; the norm's affine weight and bias have one row per position.
        norm: `seq` for a norm over tokens and width together (released), `token` for one over the width.
        init_bias: First value of b; 0 for PyTorch's, random ones near 0.
    """

    dimension: int
    seq_length: int
    norm: str = "seq"
    init_bias: float = 0.0


class HighwayGate(nn.Module):
    """One gate block: `linear` (D -> D) and `layernorm`."""

    product_dtype = torch.float32
    """Of the matrix product, see `precision`."""
    opening: Tensor | None = None
    """Mean of g over the real tokens of the last forward pass; a scalar without gradient."""

    def __init__(self, shape: GateShape) -> None:
        """Make the block: Xavier-uniform weight, everything else PyTorch's default."""
        super().__init__()
        self.norm = shape.norm
        self.linear = nn.Linear(shape.dimension, shape.dimension)
        self.layernorm = nn.LayerNorm((shape.seq_length, shape.dimension))
        nn.init.xavier_uniform_(self.linear.weight)
        if shape.init_bias:
            nn.init.constant_(self.linear.bias, shape.init_bias)

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
        self.opening = g.detach().mean() if mask is None else (g.detach().mean(-1) * mask).sum() / mask.sum()
        if self.norm == "token":
            return F.layer_norm(mixed, mixed.shape[2:], None, None, norm.eps) * weight + bias
        if mask is None:
            return F.layer_norm(mixed, mixed.shape[1:], weight, bias, norm.eps)
        real = mask.unsqueeze(-1)  # (B, S, 1)
        count = mask.sum(1).mul(mixed.shape[2]).view(-1, 1, 1)  # (B, 1, 1), real tokens times D
        mean = (mixed * real).sum((1, 2), keepdim=True) / count
        centred = mixed - mean
        variance = (centred.square() * real).sum((1, 2), keepdim=True) / count
        return centred * torch.rsqrt(variance + norm.eps) * weight + bias


class GateChain(nn.Module):
    """LAD's gates: a chain of blocks from the first teacher layer up, or, `reverse`, from the last one down.

    Args:
        shape: Of the blocks.
        teacher_layers: L_t.
        layer_map: The teacher layer, hence aggregate, that each student layer learns.
        reverse: Run the chain from the last teacher layer down.
    """

    def __init__(self, shape: GateShape, teacher_layers: int, layer_map: LayerMap, reverse: bool = False) -> None:
        """Build a block for every teacher layer after the first of the chain, as far as the map needs it."""
        super().__init__()
        self.shape, self.layer_map = shape, layer_map
        followed = layer_map.values()
        up, down = range(max(followed) + 1), range(teacher_layers - 1, min(followed) - 1, -1)
        self.order = list(down if reverse else up)
        self.blocks = nn.ModuleDict({str(layer): HighwayGate(shape) for layer in self.order[1:]})

    @property
    def reads(self) -> tuple[int, ...]:
        """0-based teacher layers that the gates read."""
        return tuple(sorted(self.order))

    def forward(
        self, states: Mapping[int, Tensor] | Sequence[Tensor], mask: Tensor | None = None
    ) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """Give the target of each student layer.

        Args:
            states: Teacher layers (B, S, D) by their 0-based number, without the embedding output; those of `order`.
            mask: (B, S), 1 for real tokens; None if all are, or to let padding count.

        Returns:
            Targets (B, S, D) by 0-based student layer, and what is worth watching, see `seen`.
        """
        aggregate = states[self.order[0]].float()
        aggregates = {self.order[0]: aggregate}
        for layer in self.order[1:]:
            aggregate = self.blocks[str(layer)](aggregate, states[layer].float(), mask)
            aggregates[layer] = aggregate
        targets = {student: aggregates[layer] for student, layer in self.layer_map.items()}
        return targets, seen(self.blocks, targets, mask)


class GatePairs(nn.Module):
    """LAD-NO's gates: one block per student layer, no chain.

    Args:
        shape: Of the blocks.
        layer_map: The teacher layer that each student layer follows; blocks are named by it.
    """

    def __init__(self, shape: GateShape, layer_map: LayerMap) -> None:
        """Build the blocks; two student layers that follow one teacher layer share one."""
        super().__init__()
        self.shape, self.layer_map = shape, layer_map
        self.blocks = nn.ModuleDict({str(layer): HighwayGate(shape) for layer in sorted(set(layer_map.values()))})

    def forward(
        self, below: Mapping[int, Tensor], followed: Mapping[int, Tensor], mask: Tensor | None = None
    ) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """Give the target of each student layer.

        Args:
            below: (B, S, D) by 0-based student layer: the layer below the one that it follows.
            followed: (B, S, D) by student layer: the teacher layer that it follows.
            mask: (B, S), 1 for real tokens; None if all are, or to let padding count.

        Returns:
            Targets (B, S, D) by student layer, and what is worth watching, see `seen`.
        """
        targets = {
            student: self.blocks[str(layer)](below[student].float(), followed[student].float(), mask)
            for student, layer in self.layer_map.items()
        }
        return targets, seen(self.blocks, targets, mask)


@torch.no_grad()
def calibrate(blocks: nn.ModuleDict, states: Mapping[int, Tensor], mask: Tensor | None) -> None:
    """Let the norm of every block start with mean and deviation of the teacher layer that it lets through.

    With an open gate the aggregate is then the teacher's layer; at a scale of one the student has to learn another.

    Args:
        blocks: By 0-based teacher layer.
        states: Teacher layers (B, S, D) of some sentences.
        mask: (B, S), 1 for real tokens; None if all are.
    """
    for layer, block in blocks.items():
        real = states[int(layer)].float()
        values = real.flatten(0, 1) if mask is None else real[mask.bool()]
        norm = cast(HighwayGate, block).layernorm
        norm.weight.fill_(float(values.std()))
        norm.bias.fill_(float(values.mean()))


def seen(blocks: nn.ModuleDict, targets: Mapping[int, Tensor], mask: Tensor | None) -> dict[str, Tensor]:
    """Collect what is worth watching.

    Returns:
        `gate_I`, the mean opening of the gate of 1-based teacher layer I; `target_spread`, see `spread`, of the student
        layer where it is smallest.
    """
    openings = {f"gate_{int(layer) + 1}": cast(Tensor, block.opening) for layer, block in blocks.items()}
    spreads = [spread(target.detach(), mask) for target in targets.values()]
    return openings | {"target_spread": torch.stack(spreads).min()}


def spread(vectors: Tensor, mask: Tensor | None) -> Tensor:
    """Share of the vectors (B, S, D) that is not their common mean, in 0..1: 0 where all real tokens have the same.

    Nothing but the distance to the student trains the gates, and targets that are all alike are the easiest to meet.
    """
    weight = torch.ones_like(vectors[..., :1]) if mask is None else mask.unsqueeze(-1).to(vectors.dtype)
    count = weight.sum()
    mean = (vectors * weight).sum((0, 1)) / count
    return 1 - mean.square().sum() / ((vectors.square() * weight).sum() / count)
