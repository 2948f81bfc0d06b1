"""A teacher that is run.

On a CPU a row's outputs do not depend, to the last bit, on the rows beside it: rows of different length attend apart
(`hardware.cpu.attention`), and the head reads blocks of a fixed size. So a cache can replace the model exactly.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from fine_tune.data.batches import Batch
from fine_tune.data.tokens import Inputs
from fine_tune.hardware.cpu.kernels import attend_by_length
from fine_tune.hardware.device import to_device
from fine_tune.model.classifier import Classifier
from fine_tune.teacher.protocol import TeacherOutput

HEAD_ROWS = 64
"""Rows that the head classifies at once; products of very few rows are summed in another order."""


class LiveTeacher:
    """A frozen teacher that is run on every batch.

    Args:
        model: The model, on `device`.
        device: Its place.
        layers: 0-based layers whose states are wanted.
        by_length: Keep rows of different length apart (CPU only; not where padding counts).
        home: The student's device, where outputs go; None for `device`.
        tokens: First tokens whose states are wanted, 1 for [CLS]; None for all.
    """

    def __init__(
        self,
        model: Classifier,
        device: torch.device,
        layers: Sequence[int],
        by_length: bool,
        home: torch.device | None = None,
        tokens: int | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.device = device
        self.layers = layers
        self.home = home or device
        self.tokens = tokens
        if by_length:
            attend_by_length(model.encoder)

    def expect(self, update: list[Batch]) -> None:
        """Prepare nothing."""

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Run the model on a batch."""
        return self.run(batch.teacher)

    @torch.no_grad()
    def run(self, inputs: Inputs) -> TeacherOutput:
        """Run the model on inputs."""
        states = self.model.states(**to_device(inputs, self.device))
        blocks = (F.pad(rows, (0, 0, 0, HEAD_ROWS - len(rows))) for rows in states[-1][:, 0].split(HEAD_ROWS))
        logits = torch.cat([self.model.head(block) for block in blocks])[: len(states[-1])]
        wanted = {layer: states[layer + 1][:, : self.tokens] for layer in self.layers}
        return TeacherOutput(to_device(logits, self.home), to_device(wanted, self.home))
