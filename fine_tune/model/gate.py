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

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fine_tune.hardware.precision import autocast
from fine_tune.layer_map import LayerMap
from fine_tune.model.part import TrainedPart


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


def mix(previous: Tensor, current: Tensor, opening: Tensor) -> Tensor:
    """Mix the aggregate so far with a teacher layer: what a gate does before its norm."""
    return torch.lerp(previous, current, opening)


def fold(
    order: Sequence[int], states: Mapping[int, Tensor], gate: Callable[[int, Tensor, Tensor], Tensor]
) -> dict[int, Tensor]:
    """Fold teacher layers one after the other: the aggregate at each layer of `order`, the first one's is that layer.

    Args:
        order: Teacher layers.
        states: What is folded, by teacher layer.
        gate: Gives the next aggregate, from a layer's number, the aggregate so far and the layer.
    """
    aggregates = {order[0]: states[order[0]]}
    for before, layer in pairwise(order):
        aggregates[layer] = gate(layer, aggregates[before], states[layer])
    return aggregates


class HighwayGate(nn.Module):
    """One gate block: `linear` (D -> D; Xavier-uniform weight, else PyTorch's start) and `layernorm`."""

    product_dtype = torch.float32
    """Of the matrix product, see `precision`."""
    opening: Tensor | None = None
    """Mean of g over the real tokens of the last forward pass; a scalar without gradient."""
    compiled_alone = True
    """`--compile` compiles each block by itself."""

    def __init__(self, shape: GateShape) -> None:
        super().__init__()
        self.norm = shape.norm
        self.linear = nn.Linear(shape.dimension, shape.dimension)
        self.layernorm = nn.LayerNorm((shape.seq_length, shape.dimension))
        nn.init.xavier_uniform_(self.linear.weight)
        if shape.init_bias:
            nn.init.constant_(self.linear.bias, shape.init_bias)

    def opening_of(self, previous: Tensor) -> Tensor:
        """Give how far the gate opens, in 0..1, for every token and component: (B, S, D), as `previous`."""
        with autocast(previous.device, self.product_dtype):
            return torch.sigmoid(self.linear(previous).to(previous.dtype))

    def forward(self, previous: Tensor, current: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fold the teacher layer `current` into the aggregate `previous`.

        Args:
            previous: (B, S, D), the aggregate so far; the gate looks at this alone.
            current: (B, S, D), the next teacher layer.
            mask: (B, S), 1 for real tokens; None lets padding count.

        Returns:
            (B, S, D), the new aggregate; its values on masked tokens mean nothing.
        """
        g = self.opening_of(previous)
        mixed = mix(previous, current, g)
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


class Gates(TrainedPart):
    """What all kinds of gates share: a block per teacher layer, saved as `gate-I-STEP.pt` (I 0-based)."""

    blocks: nn.ModuleDict
    """By 0-based teacher layer."""

    def __init__(self, shape: GateShape) -> None:
        super().__init__()
        self.shape = shape

    @property
    def reads(self) -> tuple[int, ...]:
        """0-based teacher layers that are read; -1 is the embedding output."""
        raise AttributeError("of a kind of gates")

    def saved(self) -> dict[str, nn.Module]:
        """Name what checkpoints hold of them: every block."""
        return {f"gate-{layer}": block for layer, block in self.blocks.items()}

    def clipped(self) -> list[nn.Module]:
        """List the modules whose gradients are clipped each by itself: every block."""
        return list(self.blocks.values())

    def facts(self) -> dict[str, int]:
        """Give what `gate_config.json` holds beside flags."""
        return {"dimension": self.shape.dimension, "max_seq_length": self.shape.seq_length}


class GateChain(Gates):
    """LAD's gates: a chain of blocks from the first teacher layer up, or, `reverse`, from the last one down.

    Args:
        shape: Of the blocks.
        teacher_layers: L_t.
        layer_map: The teacher layer, hence aggregate, that each student layer learns.
        reverse: Run the chain from the last teacher layer down.
        plain: Student layers that learn teacher layers as they are, beside the chain (the probe `partial_lad`).
    """

    def __init__(
        self,
        shape: GateShape,
        teacher_layers: int,
        layer_map: LayerMap,
        reverse: bool = False,
        plain: LayerMap | None = None,
    ) -> None:
        super().__init__(shape)
        self.layer_map = layer_map
        self.plain = plain or {}
        followed = layer_map.values()
        up, down = range(max(followed) + 1), range(teacher_layers - 1, min(followed) - 1, -1)
        self.order = list(down if reverse else up)
        self.blocks = nn.ModuleDict({str(layer): HighwayGate(shape) for layer in self.order[1:]})

    @property
    def reads(self) -> tuple[int, ...]:
        """0-based teacher layers that are read."""
        return tuple(sorted({*self.order, *self.plain.values()}))

    def forward(
        self, states: Mapping[int, Tensor] | Sequence[Tensor], mask: Tensor | None = None
    ) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """Give the target of each student layer.

        Args:
            states: Teacher layers (B, S, D) by their 0-based number, without the embedding output; those of `order`.
            mask: (B, S), 1 for real tokens; None if all are, or to let padding count.

        Returns:
            Targets (B, S, D) by 0-based student layer, and what is worth watching, see `watched`.
        """
        states = {layer: states[layer].float() for layer in self.reads}
        aggregates = fold(self.order, states, lambda layer, *pair: self.blocks[str(layer)](*pair, mask))
        targets = {student: aggregates[layer] for student, layer in self.layer_map.items()}
        plain = {student: states[layer] for student, layer in self.plain.items()}
        return targets | plain, watched(self.blocks, targets, mask)


class GatePairs(Gates):
    """LAD-NO's gates: one block per student layer, no chain. Each mixes a teacher layer with the one below it.

    Args:
        shape: Of the blocks.
        layer_map: The teacher layer that each student layer follows; two that follow the same one share its block.
    """

    def __init__(self, shape: GateShape, layer_map: LayerMap) -> None:
        super().__init__(shape)
        self.layer_map = layer_map
        self.blocks = nn.ModuleDict({str(layer): HighwayGate(shape) for layer in sorted(set(layer_map.values()))})

    @property
    def reads(self) -> tuple[int, ...]:
        """0-based teacher layers that are read; -1 is the embedding output."""
        return tuple(sorted({layer - below for layer in self.layer_map.values() for below in (0, 1)}))

    def forward(
        self, states: Mapping[int, Tensor], mask: Tensor | None = None
    ) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """Give the target of each student layer.

        Args:
            states: Teacher layers (B, S, D) by their 0-based number, -1 the embedding output.
            mask: (B, S), 1 for real tokens; None if all are, or to let padding count.

        Returns:
            Targets (B, S, D) by 0-based student layer, and what is worth watching, see `watched`.
        """
        targets = {
            student: self.blocks[str(layer)](states[layer - 1].float(), states[layer].float(), mask)
            for student, layer in self.layer_map.items()
        }
        return targets, watched(self.blocks, targets, mask)


@torch.no_grad()
def calibrate(blocks: nn.ModuleDict, states: Mapping[int, Tensor], mask: Tensor | None) -> None:
    """Start the norm of every block at the mean and deviation of the teacher layer that it lets through.

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


def watched(blocks: nn.ModuleDict, targets: Mapping[int, Tensor], mask: Tensor | None) -> dict[str, Tensor]:
    """Collect what is worth watching while gates are trained.

    Returns:
        `gate_I`, the mean opening of the gate of 1-based teacher layer I; `target_spread`, see `spread`, of the student
        layer where it is smallest.
    """
    openings = {f"gate_{int(layer) + 1}": cast(Tensor, block.opening) for layer, block in blocks.items()}
    spreads = [spread(target.detach(), mask) for target in targets.values()]
    return openings | {"target_spread": torch.stack(spreads).min()}


def spread(vectors: Tensor, mask: Tensor | None) -> Tensor:
    """Share of the vectors (B, S, D) that is not their common mean, in 0..1; 0 if all real tokens have the same vector.

    The gates are trained by the distance to the student alone, and the easiest targets to meet are equal ones.
    """
    weight = torch.ones_like(vectors[..., :1]) if mask is None else mask.unsqueeze(-1).to(vectors.dtype)
    count = weight.sum()
    mean = (vectors * weight).sum((0, 1)) / count
    return 1 - mean.square().sum() / ((vectors.square() * weight).sum() / count)
