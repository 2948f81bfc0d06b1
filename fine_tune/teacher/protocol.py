"""What a method asks of its frozen teacher, and what it gets, whoever answers: a model, a cache, a file."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple, Protocol

from torch import Tensor

from fine_tune.data.batches import Batch

LEVELS = ("logits", "cls", "states")
"""What can be asked of a teacher, each level with all before it: logits, [CLS] states, states of all tokens."""


class Needs(NamedTuple):
    """What a method needs of its teacher.

    Attributes:
        level: One of `LEVELS`.
        layers: Layers whose states it reads: 0-based, -1 the embedding.
        every: Whether the method is meant to read every layer, so that one which it does not is worth a warning.
        unit: Whether only the direction of states counts, so that normalised ones do as well.
    """

    level: str
    layers: tuple[int, ...] = ()
    every: bool = False
    unit: bool = False


class TeacherOutput(NamedTuple):
    """Float32 `logits` (B, C), and by 0-based layer the `states` (B, S, D) that the method needs; no gradient.

    They are on the student's device; at the level `cls` the states may have S = 1.
    """

    logits: Tensor
    states: Mapping[int, Tensor]


class Teacher(Protocol):
    """A frozen teacher, as a loop sees it."""

    def expect(self, update: list[Batch]) -> None:
        """Announce the next update, so that its outputs can be fetched ahead."""

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Give the outputs of a batch."""


def announced(updates: Iterator[list[Batch]], teacher: Teacher) -> Iterator[list[Batch]]:
    """Announce every one of endless updates to a teacher while the one before it is worked on."""
    for update, following in pairwise(updates):
        teacher.expect(following)
        yield update
