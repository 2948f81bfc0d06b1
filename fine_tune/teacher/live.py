"""What a method sees of its frozen teacher: outputs of a batch, computed now, or read from a cache (`teacher_cache`).

On a CPU a sentence's outputs do not depend, to the last bit, on the sentences beside it: rows of different length
attend apart (`model.attention`), and the head reads blocks of a fixed size. So a cache can replace the model exactly.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fine_tune.data.batches import Batch
from fine_tune.data.tokens import Inputs
from fine_tune.hardware.device import to_device
from fine_tune.model.classifier import Classifier

HEAD_ROWS = 64
"""Rows that the head classifies at once; products of very few rows are summed in another order."""
LEVELS = ("logits", "cls", "states")
"""What can be asked of a teacher, each level with all before it: logits, [CLS] states, states of all tokens."""


class Needs(NamedTuple):
    """What a method needs of its teacher: a level, and the layers whose states it reads: 0-based, -1 the embedding."""

    level: str
    layers: tuple[int, ...] = ()


class TeacherOutput(NamedTuple):
    """Float32 `logits` (B, C), and by 0-based layer the `states` (B, S, D) that the method needs; no gradient."""

    logits: Tensor
    states: Mapping[int, Tensor]


class Teacher(Protocol):
    """A frozen teacher, as a loop sees it."""

    def expect(self, update: list[Batch]) -> None:
        """Be told of an update, one update ahead."""

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Give the outputs of a batch."""


def announced(updates: Iterator[list[Batch]], teacher: Teacher) -> Iterator[list[Batch]]:
    """Tell a teacher of every one of endless updates before the one ahead of it is worked on."""
    for update, following in pairwise(updates):
        teacher.expect(following)
        yield update


class LiveTeacher:
    """A teacher that is run.

    Args:
        model: The model, on `device`.
        device: Its place.
        layers: 0-based layers whose states are wanted.
        by_length: Keep rows of different length apart (CPU only; not where padding counts).
    """

    def __init__(self, model: Classifier, device: torch.device, layers: Sequence[int], by_length: bool) -> None:
        """Freeze it."""
        self.model, self.device, self.layers = model.eval().requires_grad_(False), device, layers
        if by_length:
            model.encoder.set_attn_implementation("by_length")

    def expect(self, update: list[Batch]) -> None:
        """Have nothing to prepare."""

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Run the model on a batch."""
        return self.run(batch.teacher)

    @torch.no_grad()
    def run(self, inputs: Inputs) -> TeacherOutput:
        """Run the model on inputs."""
        states = self.model.states(**to_device(inputs, self.device))
        blocks = (F.pad(rows, (0, 0, 0, HEAD_ROWS - len(rows))) for rows in states[-1][:, 0].split(HEAD_ROWS))
        logits = torch.cat([self.model.head(block) for block in blocks])[: len(states[-1])]
        return TeacherOutput(logits, {layer: states[layer + 1] for layer in self.layers})
