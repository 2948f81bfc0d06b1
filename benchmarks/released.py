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
from fine_tune.model.classifier import Output
from fine_tune.model.load import Loaded
from fine_tune.model.student import new_student, settled_sizes
from fine_tune.run.optim import parameter_groups
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import TASKS

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
        longest = self.teacher.max_seq_len
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


def gold_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Give the loss of the gold labels: cross-entropy, or the squared error of a score."""
    if label.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), label)
    return F.cross_entropy(logits, label)


class ReleasedTeacher(Released):
    """Fine-tuning."""

    def build(self) -> list[nn.Module]:
        """Train the teacher itself."""
        self.teacher.model.requires_grad_(True)
        return [self.teacher.model]

    def losses(self, texts: list[tuple[str, ...]], label: Tensor) -> Iterator[Tensor]:
        """Give the one loss."""
        yield gold_loss(self.teacher.model(**self.tokenise(texts)).logits, label)


class ReleasedStudent(Released):
    """A student of half the layers; a subclass makes its targets."""

    def build(self) -> list[nn.Module]:
        """Train the student, and what makes its targets, each clipped by itself."""
        self.teacher.model.to(self.device)
        sizes = settled_sizes(StudentConfig(), "bert", self.teacher)
        self.student, _ = new_student(sizes, self.teacher)
        self.layers = self.teacher.model.num_layers, self.student.num_layers
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
        softened = F.log_softmax(s.logits / TEMPERATURE, -1), F.softmax(t.logits / TEMPERATURE, -1)
        soft = TEMPERATURE**2 * F.kl_div(*softened, reduction="batchmean")
        yield WEIGHTS["hard"] * gold_loss(s.logits, label) + WEIGHTS["soft"] * soft
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
        layers = torch.stack(t.hidden_states, 2)  # (B, S, L, D)
        targets = {}
        for number, state in enumerate(s.hidden_states):
            scores = (layers @ state.unsqueeze(-1)).squeeze(-1) / state.shape[-1] ** 0.5
            targets[number] = (scores.softmax(-1).unsqueeze(-2) @ layers).squeeze(-2)
        return targets


class ReleasedGate(nn.Module):
    """A gate block: an opening by a linear layer, a mix of two layers, a layer norm over tokens and width.

    Args:
        width: D.
        length: Tokens.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.linear, self.layernorm = nn.Linear(width, width), nn.LayerNorm((length, width))
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, previous: Tensor, current: Tensor) -> Tensor:
        """Fold a teacher layer into what was aggregated before."""
        g = torch.sigmoid(self.linear(previous))
        mixed: Tensor = self.layernorm(current * g + previous * (1 - g))
        return mixed


class ReleasedGated(ReleasedStudent):
    """A student with gates; a subclass chains them or does not."""

    def build_gates(self) -> list[nn.Module]:
        """Build a gate for every teacher layer; the ones that a method does not use are never trained."""
        shape = self.teacher.model.width, self.teacher.max_seq_len
        self.gates = nn.ModuleList(ReleasedGate(*shape) for _ in range(self.layers[0])).to(self.device)
        return [self.gates[layer] for layer in self.used()]

    @abstractmethod
    def used(self) -> list[int]:
        """List the layers whose gates are trained."""


class ReleasedLad(ReleasedGated):
    """LAD."""

    def used(self) -> list[int]:
        """All but the first, which the released code never trains, up to the last that is followed."""
        return list(range(1, max(uniform_layer_map(*self.layers).values()) + 1))

    def targets(self, t: Output, s: Output) -> Mapping[int, Tensor]:
        """Fold the teacher's layers."""
        aggregates = {0: t.hidden_states[0]}
        for layer in self.used():
            aggregates[layer] = self.gates[layer](aggregates[layer - 1], t.hidden_states[layer])
        return {student: aggregates[layer] for student, layer in uniform_layer_map(*self.layers).items()}


class ReleasedLadNo(ReleasedGated):
    """LAD-NO, where at least two teacher layers stand against each of the student's."""

    def used(self) -> list[int]:
        """Those that are followed."""
        return list(uniform_layer_map(*self.layers).values())

    def targets(self, t: Output, s: Output) -> Mapping[int, Tensor]:
        """Mix every mapped layer with the one below."""
        follows = uniform_layer_map(*self.layers).items()
        return {student: self.gates[k](t.hidden_states[k - 1], t.hidden_states[k]) for student, k in follows}
