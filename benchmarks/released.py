"""The arithmetic of the released code, written from its description on this project's models: what others are timed by.

Every sentence padded to `max_seq_len`, text tokenised inside the loop, for teacher and student each; one backward pass
for the losses on the logits and one per student layer, a value read back after each; torch's default AdamW; float32.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fine_tune.build import build_student
from fine_tune.config import StudentConfig
from fine_tune.load import Loaded
from fine_tune.losses import hard_target_loss, soft_target_loss
from fine_tune.model.classifier import Classifier
from fine_tune.model.gate import GateChain
from fine_tune.optim import parameter_groups
from fine_tune.task import TASKS, read_split

WEIGHTS = {"soft": 0.5, "hard": 0.5, "hidden": 100.0}
TEMPERATURE = 10.0


class Released(ABC):
    """Data and optimiser steps as released; a subclass is a method.

    Args:
        teacher: A fine-tuned teacher.
        batch_size: Rows per update.
        device: Place of all models.
    """

    def __init__(self, teacher: Loaded, batch_size: int, device: torch.device) -> None:
        """Read the raw rows, build the models."""
        self.teacher, self.device = teacher, device
        self.task = TASKS[teacher.config["task"]]
        self.rows = self.shuffled(batch_size)
        self.trained = [module.to(device).train() for module in self.build()]
        self.optimizers = [torch.optim.AdamW(parameter_groups([module], 0.01), lr=1e-5) for module in self.trained]

    @abstractmethod
    def build(self) -> list[nn.Module]:
        """Build the modules to train."""

    @abstractmethod
    def losses(self, texts: list[tuple[str, ...]], label: Tensor) -> Iterator[Tensor]:
        """Give the losses that are each sent backward on their own."""

    def shuffled(self, batch_size: int) -> Iterator[list[tuple[tuple[str, ...], float]]]:
        """Give random batches of raw rows without end."""
        rows = read_split(self.task, "train")
        generator = torch.Generator().manual_seed(42)
        while True:
            for picked in torch.randperm(len(rows), generator=generator).split(batch_size):
                yield [(rows[index].text, rows[index].label) for index in picked]

    def tokenise(self, texts: list[tuple[str, ...]]) -> dict[str, Tensor]:
        """Tokenise and pad to the maximum."""
        columns = [list(column) for column in zip(*texts, strict=True)]
        longest = self.teacher.config["max_seq_len"]
        encoded = self.teacher.tokenizer(
            *columns, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
        )
        return {name: value.to(self.device) for name, value in encoded.items()}

    def step(self) -> None:
        """Make one update."""
        texts, labels = zip(*next(self.rows), strict=True)
        label = torch.tensor(labels, device=self.device)
        for loss in self.losses(list(texts), label if self.task.regression else label.long()):
            loss.backward(retain_graph=True)
            loss.item()
        for module in self.trained:
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()


class ReleasedTeacher(Released):
    """Fine-tuning."""

    def build(self) -> list[nn.Module]:
        """Train the teacher itself."""
        self.teacher.model.requires_grad_(True)
        return [self.teacher.model]

    def losses(self, texts: list[tuple[str, ...]], label: Tensor) -> Iterator[Tensor]:
        """Give the one loss."""
        yield hard_target_loss(self.teacher.model(**self.tokenise(texts)).logits, label)


class ReleasedLad(Released):
    """LAD."""

    def build(self) -> list[nn.Module]:
        """Train a student of half the layers, and the gates, each clipped by itself."""
        self.teacher.model.to(self.device)
        sizes = StudentConfig()
        student, layer_map, _ = build_student(sizes, "bert", self.teacher)
        self.student: Classifier = student
        layers = self.teacher.model.num_layers
        self.gates = GateChain(student.width, sizes.max_seq_len or 0, layers, layer_map).to(self.device)
        return [student, *self.gates.blocks.values()]

    def losses(self, texts: list[tuple[str, ...]], label: Tensor) -> Iterator[Tensor]:
        """Give the losses on the logits, then the hidden loss of every layer."""
        with torch.no_grad():
            t = self.teacher.model(**self.tokenise(texts))
        s = self.student(**self.tokenise(texts))
        targets, _ = self.gates(t.hidden_states)
        hard = WEIGHTS["hard"] * hard_target_loss(s.logits, label)
        yield hard + WEIGHTS["soft"] * soft_target_loss(s.logits, t.logits, TEMPERATURE)
        for state, target in zip(s.hidden_states, targets, strict=True):
            yield WEIGHTS["hidden"] / len(targets) * F.mse_loss(state, target)
