"""The arithmetic of the released code, written from its description on this project's models: what others are timed by.

Every sentence padded to `max_seq_len`, text tokenised inside the loop, for teacher and student each; one backward pass
for the losses on the logits and one per student layer, a value read back after each; torch's default AdamW; float32.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fine_tune.flags.shared import StudentConfig
from fine_tune.layer_map import uniform_layer_map
from fine_tune.losses import hard_target_loss, soft_target_loss
from fine_tune.model.classifier import Output
from fine_tune.model.gate import GateChain, GatePairs, GateShape
from fine_tune.model.load import Loaded
from fine_tune.model.student import build_student, resolve_sizes
from fine_tune.run.optim import parameter_groups
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import TASKS
from fine_tune.train.alp import attention_targets, full_reach

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


class ReleasedStudent(Released):
    """A student of half the layers; a subclass makes its targets."""

    def build(self) -> list[nn.Module]:
        """Train the student, and what makes its targets, each clipped by itself."""
        self.teacher.model.to(self.device)
        sizes = StudentConfig()
        resolve_sizes(sizes, "bert", self.teacher)
        self.student, _ = build_student(sizes, self.teacher)
        self.layers = self.teacher.model.num_layers, self.student.num_layers
        self.shape = GateShape(self.teacher.model.width, self.teacher.config["max_seq_len"])
        return [self.student, *self.build_gates()]

    def build_gates(self) -> list[nn.Module]:
        """Build the gates, if there are any."""
        return []

    @abstractmethod
    def targets(self, t: Output, s: Output) -> Mapping[int, Tensor]:
        """Make the target of each student layer that has one."""

    def losses(self, texts: list[tuple[str, ...]], label: Tensor) -> Iterator[Tensor]:
        """Give the losses on the logits, then the hidden loss of every layer."""
        with torch.no_grad():
            t = self.teacher.model(**self.tokenise(texts))
        s = self.student(**self.tokenise(texts))
        targets = self.targets(t, s)
        hard = WEIGHTS["hard"] * hard_target_loss(s.logits, label)
        yield hard + WEIGHTS["soft"] * soft_target_loss(s.logits, t.logits, TEMPERATURE)
        for layer, target in targets.items():
            state = s.hidden_states[layer][:, : target.shape[1]]
            yield WEIGHTS["hidden"] / len(s.hidden_states) * F.mse_loss(state, target)


class ReleasedKd(ReleasedStudent):
    """Distillation of the logits."""

    def targets(self, t: Output, s: Output) -> Mapping[int, Tensor]:
        """Make none."""
        return {}


class ReleasedPkd(ReleasedStudent):
    """PKD, all tokens."""

    def targets(self, t: Output, s: Output) -> Mapping[int, Tensor]:
        """Take the mapped teacher layers as they are."""
        return {layer: t.hidden_states[followed] for layer, followed in uniform_layer_map(*self.layers).items()}


class ReleasedAlp(ReleasedStudent):
    """ALP-KD, all tokens."""

    def targets(self, t: Output, s: Output) -> Mapping[int, Tensor]:
        """Mix all teacher layers by attention."""
        states = dict(enumerate(t.hidden_states))
        return attention_targets(s.hidden_states, states, full_reach(*self.layers))[0]


class ReleasedLad(ReleasedStudent):
    """LAD."""

    def build_gates(self) -> list[nn.Module]:
        """Build the chain."""
        self.gates = GateChain(self.shape, self.layers[0], uniform_layer_map(*self.layers)).to(self.device)
        return list(self.gates.blocks.values())

    def targets(self, t: Output, s: Output) -> Mapping[int, Tensor]:
        """Fold the teacher's layers."""
        return self.gates(t.hidden_states)[0]


class ReleasedLadNo(ReleasedStudent):
    """LAD-NO, where at least two teacher layers stand against each of the student's."""

    def build_gates(self) -> list[nn.Module]:
        """Build a gate for every student layer."""
        self.gates = GatePairs(self.shape, uniform_layer_map(*self.layers)).to(self.device)
        return list(self.gates.blocks.values())

    def targets(self, t: Output, s: Output) -> Mapping[int, Tensor]:
        """Mix every mapped layer with the one below."""
        followed = uniform_layer_map(*self.layers)
        below = {layer: t.hidden_states[above - 1] for layer, above in followed.items()}
        current = {layer: t.hidden_states[above] for layer, above in followed.items()}
        return self.gates(below, current)[0]
