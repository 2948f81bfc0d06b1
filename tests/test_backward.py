"""Tests of one LAD step: one backward pass of the sum has the gradients of the released code's many passes."""

import copy
import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from benchmarks.released import ReleasedGate
from fine_tune.data.batches import Batch, updates
from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.layer_map import uniform_layer_map
from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder, student_encoder
from fine_tune.model.gate import GateChain, GateShape
from fine_tune.run.meter import Meter
from fine_tune.tasks.table import TASKS
from fine_tune.teacher.live import LiveTeacher
from fine_tune.train.lad import train_lad
from fine_tune.train.methods import HiddenConfig

CPU = torch.device("cpu")
LENGTH = 24
WEIGHTS = HiddenConfig(softmax_temp=3.0, soft_weight=0.3, hard_weight=0.7, hidden_mse_weight=2.0)


class Recorder:
    """Stands in for a session, for one update: keeps the gradients of the parts, and the scalars."""

    def __init__(self, batches: list[Batch], *parts: list[nn.Module]) -> None:
        self.batches, self.parts, self.gradients, self.values, self.made = batches, parts, [], {}, 0
        self.meter = Meter()
        self.add = self.meter.add

    def updates(self) -> Iterator[Iterator[Batch]]:
        yield iter(self.batches)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        self.made += 1
        self.gradients = [gradients(*modules) for modules in self.parts]
        self.values = self.meter.mean(self.made)


def gradients(*modules: nn.Module) -> list[torch.Tensor]:
    """Copies of all gradients."""
    return [p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None]


def assert_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    """Equal to 1e-6, and not all zero."""
    assert len(one) == len(other) > 0 and sum(g.abs().sum() for g in one) > 1e-3
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.fixture(params=[False, True], ids=["up", "down"])
def models(encoder, request):
    """Teacher, student of 2 layers, gates whose norms are not the identity; no dropout."""
    teacher = Classifier(pretrained_encoder(encoder, 0.0), 2, 0.0).eval().requires_grad_(False)
    sizes = {"num_hidden_layers": 2, "max_position_embeddings": LENGTH + 8}
    student = Classifier(student_encoder(teacher.encoder.config, sizes, 0.0), 2, 0.0)
    nn.init.normal_(teacher.linear_layer.weight, std=100.0)  # logits of a size at which the temperature matters
    gates = GateChain(GateShape(16, LENGTH + 8), 4, uniform_layer_map(4, 2), reverse=request.param)
    for block in gates.blocks.values():
        nn.init.normal_(block.layernorm.weight)
        nn.init.normal_(block.layernorm.bias)
    return teacher, student, gates


@pytest.fixture
def rows(data, encoder):
    """24 tokenised rows."""
    return load_split(TASKS["sst2"], "train", load_tokenizer(encoder), LENGTH)


def one_step(models, batches: list[Batch]):
    """Run `train_lad` for one step; gives the gradients of student and gates, and the scalars.

    Where padding is masked, the teacher attends by length, as in a run; the models of the caller attend under a mask.
    """
    teacher, student, gates = models
    student.zero_grad()
    gates.zero_grad()
    apart = any(batch.mask is not None for batch in batches)
    outputs = LiveTeacher(copy.deepcopy(teacher), CPU, gates.reads, by_length=apart)
    recorder = Recorder(batches, [student], gates.clipped())
    train_lad(recorder, outputs, student, gates, WEIGHTS)
    assert recorder.made == 1
    return *recorder.gradients, recorder.values


def apart(models, batch: Batch, layer_loss) -> tuple[list, list]:
    """Gradients of one backward pass per loss term and per student layer, as the released code does it."""
    teacher, student, gates = models
    student.zero_grad()
    gates.zero_grad()
    with torch.no_grad():
        t = teacher(**batch.teacher)
    s = student(**batch.student)
    targets, _ = gates(t.hidden_states, batch.mask)
    (WEIGHTS.soft_weight * soft_target_loss(s.logits, t.logits, WEIGHTS.softmax_temp)).backward(retain_graph=True)
    (WEIGHTS.hard_weight * hard_target_loss(s.logits, batch.label)).backward(retain_graph=True)
    assert list(targets) == list(range(len(s.hidden_states)))
    for layer, target in targets.items():
        loss = layer_loss(s.hidden_states[layer], target) / len(targets)
        (WEIGHTS.hidden_mse_weight * loss).backward(retain_graph=True)
    return gradients(student), gradients(*gates.blocks.values())


@pytest.mark.parametrize("pad_to", [None, LENGTH])
def test_one_backward_pass_equals_one_per_term_and_layer(models, rows, pad_to):
    (batch,) = next(updates(rows, batch_size=8, seed=1, pad_to=pad_to))
    got = one_step(models, [batch])
    want = apart(models, batch, lambda s, t: hidden_mse_loss([s], {0: t}, batch.mask))
    assert_same(got[0], want[0])
    assert_same(got[1], want[1])


def test_the_released_arithmetic_with_pad_to_max(models, rows, monkeypatch):
    """The released gates and F.mse_loss over everything, padding included, KL and cross-entropy written out."""
    teacher, student, gates = models
    (batch,) = next(updates(rows, batch_size=8, seed=1, pad_to=LENGTH))
    got = one_step(models, [batch])
    student.zero_grad()
    gates.zero_grad()
    with torch.no_grad():
        t = teacher(**batch.teacher)
    s = student(**batch.student)
    aggregate, aggregates = t.hidden_states[gates.order[0]], {gates.order[0]: t.hidden_states[gates.order[0]]}
    for layer in gates.order[1:]:
        block = gates.blocks[str(layer)]
        weights = {name: w[:LENGTH] if "norm" in name else w for name, w in block.named_parameters()}
        aggregate = functional_call(ReleasedGate(16, LENGTH), weights, (aggregate, t.hidden_states[layer]))
        aggregates[layer] = aggregate
    hidden = [F.mse_loss(state, aggregates[layer]) for state, layer in zip(s.hidden_states, (1, 3), strict=True)]
    kind = F.softmax(t.logits / 3.0, dim=1)
    soft = F.kl_div(F.log_softmax(s.logits / 3.0, dim=1), kind, reduction="batchmean") * 9.0
    hard = F.cross_entropy(s.logits, batch.label)
    loss = 0.3 * soft + 0.7 * hard + 2.0 / 2 * sum(hidden)
    loss.backward()
    assert_same(got[0], gradients(student))
    assert_same(got[1], gradients(*gates.blocks.values()))
    want = {"loss": loss, "soft_loss": soft, "hard_loss": hard, "hidden_loss": sum(hidden) / 2}
    assert {name: got[2][name] for name in want} == pytest.approx(
        {k: v.item() for k, v in want.items()}, rel=1e-5, abs=1e-6
    )


def widened(batch: Batch, columns: int) -> Batch:
    """The same rows with more padding, whose ids and segments hold anything."""

    def wide(inputs):
        extra = {"input_ids": 7, "attention_mask": 0, "token_type_ids": 1}
        return {key: F.pad(value, (0, columns), value=extra[key]) for key, value in inputs.items()}

    inputs = wide(batch.student)
    return Batch(batch.rows, inputs, inputs, batch.label, inputs["attention_mask"], batch.weight)


@pytest.mark.slow
def test_more_padding_changes_neither_losses_nor_gradients(models, rows):
    (batch,) = next(updates(rows, batch_size=8, seed=1))
    assert (batch.mask == 0).any()
    plain, wide = one_step(models, [batch]), one_step(models, [widened(batch, 8)])
    cut = [[g[: LENGTH + 8] for g in gradient] for gradient in (plain[1], wide[1])]
    assert_same(plain[0], wide[0])
    assert_same(*cut)
    assert wide[2] == pytest.approx(plain[2], rel=1e-5, abs=1e-6)


def test_with_pad_to_max_padding_counts(models, rows):
    (masked,) = next(updates(rows, batch_size=8, seed=1))
    (padded,) = next(updates(rows, batch_size=8, seed=1, pad_to=LENGTH))
    one, other = (one_step(models, [batch])[2] for batch in (masked, padded))
    assert one["hard_loss"] == pytest.approx(other["hard_loss"], rel=1e-5)
    assert one["hidden_loss"] != pytest.approx(other["hidden_loss"], rel=1e-3)


@pytest.mark.parametrize("accum", [2, 4])
def test_accumulated_micro_batches_have_the_gradient_of_the_whole(models, rows, accum):
    """Also where the last update of an epoch is short: 24 rows make updates of 16 and 8."""
    for at in range(2):
        whole, parts = (
            next(itertools.islice(updates(rows, batch_size=16, accum_step=n, seed=1), at, None)) for n in (1, accum)
        )
        assert (len(whole), len(parts)) == (1, -(-len(whole[0].rows) // (16 // accum)))
        one, other = one_step(models, whole), one_step(models, parts)
        assert_same(one[0], other[0])
        assert_same(one[1], other[1])
        names = ("loss", "soft_loss", "hard_loss", "hidden_loss")
        assert [other[2][name] for name in names] == pytest.approx([one[2][name] for name in names], rel=1e-5)


def test_the_teacher_gets_no_gradient_and_stays_in_eval_mode(models, rows):
    teacher, student, gates = models
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train().requires_grad_(True)
    student.eval()
    outputs = LiveTeacher(teacher, CPU, range(4), by_length=True)
    recorder = Recorder(next(updates(rows, batch_size=8, seed=1)), [student])
    train_lad(recorder, outputs, student, gates, WEIGHTS)
    assert len(recorder.gradients[0]) == len(list(student.parameters()))
    assert not teacher.training and student.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
