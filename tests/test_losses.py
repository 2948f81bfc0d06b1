"""Tests of the losses and of the learning rate against the independent NumPy reference."""

import numpy as np
import pytest
import reference
import torch
from torch import nn

from fine_tune.flags.shared import OptimConfig
from fine_tune.losses import (
    contrast_loss,
    hard_target_loss,
    hidden_mse_loss,
    soft_target_loss,
    supervised_contrast_loss,
)
from fine_tune.model.gate import GateShape, HighwayGate
from fine_tune.run.optim import Part, Updater, linear_schedule, parameter_groups

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]], dtype=torch.float64)


def normal(*shape: int, grad: bool = False) -> torch.Tensor:
    """Random float64 values."""
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
def test_contrast_is_the_reference_with_its_gradient(temperature):
    query, positive, negatives = normal(4, 6), normal(4, 6), normal(4, 3, 6)
    positive, negatives = (each / each.norm(dim=-1, keepdim=True) for each in (positive, negatives))

    def want(vectors):
        return reference.info_nce(vectors, positive.numpy(), negatives.numpy(), temperature)

    learned, fixed = query.float().requires_grad_(), positive.clone().requires_grad_()
    loss = contrast_loss(learned, fixed, negatives, temperature)
    assert loss.item() == pytest.approx(want(query.numpy()), rel=1e-5)
    loss.backward()
    assert learned.grad.numpy() == pytest.approx(reference.slope(want, query.numpy()), rel=1e-3, abs=1e-4)
    assert fixed.grad is None


def test_contrast_of_alike_vectors_is_the_logarithm_of_their_number():
    one = torch.nn.functional.normalize(torch.ones(2, 5), dim=-1)
    assert contrast_loss(3 * one, one, one[:, None].expand(2, 7, 5), 0.07).item() == pytest.approx(np.log(8))


@pytest.mark.parametrize("label", [[0, 1, 0, 1, 2], [0, 0, 0, 0, 0], [0, 1, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_supervised_contrast_is_the_reference_with_its_gradient(label, temperature):
    """Also where a row has no other of its label: it is left out of the mean, but others part from it."""
    vectors = normal(5, 6)

    def want(given):
        return reference.sup_con(given, np.array(label), temperature)

    learned = vectors.float().requires_grad_()
    loss = supervised_contrast_loss(learned, torch.tensor(label), temperature)
    assert loss.item() == pytest.approx(want(vectors.numpy()), rel=1e-5)
    loss.backward()
    assert learned.grad.numpy() == pytest.approx(reference.slope(want, vectors.numpy()), rel=1e-3, abs=1e-4)


def test_supervised_contrast_without_two_of_a_label_is_zero():
    for count in (1, 3):
        vectors = torch.randn(count, 6, requires_grad=True)
        loss = supervised_contrast_loss(vectors, torch.arange(count), 0.1)
        loss.backward()
        assert loss.item() == 0 and not vectors.grad.any()


def test_supervised_contrast_is_finite_at_a_low_temperature():
    """exp(1 / 0.001) is not a float32."""
    vectors = torch.tensor([[1.0, 0], [1, 0], [-1, 0]], requires_grad=True)
    loss = supervised_contrast_loss(vectors, torch.tensor([0, 0, 1]), 1e-3)
    loss.backward()
    assert loss.item() == 0 and vectors.grad.isfinite().all()


@pytest.mark.parametrize("classes", [2, 3])
def test_hard_loss_is_the_reference_cross_entropy(classes):
    logits, label = normal(4, classes), torch.randint(classes, (4,))
    want = reference.hard_loss(logits.numpy(), label.numpy())
    assert hard_target_loss(logits, label).item() == pytest.approx(want, rel=1e-12)


def test_hard_loss_of_a_regression_is_the_squared_error():
    logits, score = normal(4, 1), normal(4)
    want = reference.hard_loss(logits.numpy(), score.numpy())
    assert hard_target_loss(logits, score).item() == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_soft_loss_is_the_reference(classes, temperature):
    student, teacher = 5 * normal(4, classes), 5 * normal(4, classes)
    want = reference.soft_loss(student.numpy(), teacher.numpy(), temperature)
    assert soft_target_loss(student, teacher, temperature).item() == pytest.approx(want, rel=1e-9)


def test_soft_loss_is_zero_only_where_both_agree_up_to_a_constant():
    student = normal(4, 3)
    assert soft_target_loss(student, student + 7, 2.0).item() == pytest.approx(0, abs=1e-12)
    assert soft_target_loss(student, student.flip(1), 2.0).item() > 0


def test_temperature_squared_keeps_the_scale_of_the_gradient():
    """At a high temperature the gradient tends to (s - mean(s) - t + mean(t)) / (B C), whatever the temperature."""
    teacher = normal(4, 3)
    for temperature in (100.0, 1000.0):
        student = torch.ones(4, 3, dtype=torch.float64).mul(torch.arange(3)).requires_grad_()
        soft_target_loss(student, teacher, temperature).backward()
        s, t = student.detach(), teacher
        limit = ((s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))) / 12
        torch.testing.assert_close(student.grad, limit, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("classes", [1, 3])
def test_teacher_logits_get_no_gradient(classes):
    student, teacher = normal(4, classes, grad=True), normal(4, classes, grad=True)
    soft_target_loss(student, teacher, 2.0).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


@pytest.mark.parametrize("masked", [False, True])
def test_hidden_loss_is_the_reference(masked):
    student = [normal(4, 5, 6) for _ in range(3)]
    for layers in [(0, 1, 2), (2, 0), (1,)]:
        targets = {layer: normal(4, 5, 6) for layer in layers}
        want = reference.hidden_loss(
            [s.numpy() for s in student], {n: t.numpy() for n, t in targets.items()}, MASK.numpy() if masked else None
        )
        assert hidden_mse_loss(student, targets, MASK if masked else None).item() == pytest.approx(want, rel=1e-6)


def test_hidden_loss_of_single_vectors_is_the_reference():
    student, target = [normal(4, 6) for _ in range(3)], normal(4, 6)
    want = reference.hidden_loss([s.numpy() for s in student], {1: target.numpy()})
    assert hidden_mse_loss(student, {1: target}, None).item() == pytest.approx(want, rel=1e-6)


def test_hidden_loss_does_not_depend_on_padding():
    student, target = normal(4, 5, 6), normal(4, 5, 6)
    plain = hidden_mse_loss([student], {0: target}, MASK)
    wide = [torch.cat([x, torch.full((4, 3, 6), 9.0)], 1) for x in (student, target)]
    wide[1][:, 5:] = -9.0
    more = torch.cat([MASK, torch.zeros(4, 3)], 1)
    assert hidden_mse_loss(wide[:1], {0: wide[1]}, more).item() == pytest.approx(plain.item(), rel=1e-6)


def test_hidden_loss_gradient_reaches_both_sides_but_not_padding():
    student, target = normal(4, 5, 6, grad=True), normal(4, 5, 6, grad=True)
    hidden_mse_loss([student], {0: target}, MASK).backward()
    torch.testing.assert_close(student.grad, -target.grad)
    assert (student.grad[MASK == 0] == 0).all() and (student.grad[MASK == 1] != 0).all()


@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_without_a_target_has_no_loss_but_counts_in_the_number_of_layers(masked):
    student, target = [normal(4, 5, 6, grad=True) for _ in range(3)], normal(4, 5, 6)
    mask = MASK if masked else None
    loss = hidden_mse_loss(student, {1: target}, mask)
    assert loss.item() == pytest.approx(hidden_mse_loss(student[1:2], {0: target}, mask).item() / 3, rel=1e-6)
    loss.backward()
    assert [state.grad is not None for state in student] == [False, True, False]


def test_hidden_loss_refuses_a_target_for_a_layer_that_is_not_there():
    with pytest.raises(IndexError):
        hidden_mse_loss([normal(1, 2, 3)] * 2, {2: normal(1, 2, 3)}, None)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_batch_in_weighted_parts_has_the_gradient_of_the_whole(masked, classes):
    logits, states = normal(4, classes, grad=True), normal(4, 5, 6, grad=True)
    teacher, target = normal(4, classes), normal(4, 5, 6)
    label = normal(4) if classes == 1 else torch.randint(classes, (4,))

    def gradients(parts):
        logits.grad = states.grad = None
        for rows in parts:
            mask = MASK[rows] if masked else None
            loss = hard_target_loss(logits[rows], label[rows]) + soft_target_loss(logits[rows], teacher[rows], 3.0)
            loss = loss + hidden_mse_loss([states[rows]], {0: target[rows]}, mask)
            (loss * (len(rows) / 4)).backward()
        return torch.cat([logits.grad.flatten(), states.grad.flatten()])

    whole = gradients([[0, 1, 2, 3]])
    for parts in ([[0, 1], [2, 3]], [[0], [1], [2], [3]], [[0, 1, 2], [3]]):
        torch.testing.assert_close(gradients(parts), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("total", "warmup"), [(10, 3), (10, 0), (5, 4), (1, 0)])
def test_learning_rate_rises_and_falls_linearly(total, warmup):
    for step in range(total + 3):
        want = reference.learning_rate(step, 1.0, warmup, total)
        assert linear_schedule(step, total, warmup) == pytest.approx(want, abs=1e-12)


def test_updater_follows_the_schedule_and_clears_gradients():
    layer = nn.Linear(2, 2)
    updater = Updater({"": Part([layer], OptimConfig(lr=0.5), total_step=6, warmup_step=2)})
    for step in range(6):
        updater.backward(layer(torch.ones(1, 2)).sum())
        assert updater.step() == {
            "lr": pytest.approx(reference.learning_rate(step, 0.5, 2, 6)),
            "grad_norm": pytest.approx(6**0.5),  # of (2, 2) weights and 2 biases
        }
        assert layer.weight.grad is None
    updater.backward(layer(torch.ones(1, 2)).sum())
    assert updater.step()["lr"] == 0


def test_every_part_has_a_schedule_of_its_own():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    parts = {
        "": Part([one], OptimConfig(lr=0.5), total_step=6, warmup_step=2),
        "gate_": Part([other], OptimConfig(lr=0.25), total_step=3, warmup_step=0),
    }
    updater = Updater(parts)
    for step in range(6):
        want = reference.learning_rate(step, 0.5, 2, 6), reference.learning_rate(step, 0.25, 0, 3)
        before = [layer.weight.clone() for layer in (one, other)]
        updater.backward(one(torch.ones(1, 2)).sum() + other(torch.ones(1, 2)).sum())
        made = updater.step()
        assert (made["lr"], made["gate_lr"]) == pytest.approx(want) and set(made) == {
            *("lr", "gate_lr", "grad_norm", "gate_grad_norm")
        }
        moved = [not torch.equal(layer.weight, old) for layer, old in zip((one, other), before, strict=True)]
        assert moved == [rate > 0 for rate in want]
        assert one.weight.grad is None and other.weight.grad is None


def test_the_first_update_of_a_warm_up_has_a_learning_rate_of_zero():
    layer = nn.Linear(2, 2)
    before = layer.weight.clone()
    updater = Updater({"": Part([layer], OptimConfig(lr=0.5), total_step=6, warmup_step=2)})
    updater.backward(layer(torch.ones(1, 2)).sum())
    updater.step()
    assert torch.equal(layer.weight, before)


def test_each_module_is_clipped_by_itself(monkeypatch):
    modules = [nn.Linear(3, 3), nn.Linear(3, 3)]
    for module, size in zip(modules, (10.0, 1e-3), strict=True):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, size)
    part = Part(modules, OptimConfig(max_norm=0.5), total_step=2, warmup_step=0)
    monkeypatch.setattr(part.optimizer, "zero_grad", lambda set_to_none: None)
    Updater({"": part}).step()
    norms = [torch.cat([p.grad.flatten() for p in module.parameters()]).norm().item() for module in modules]
    assert norms == pytest.approx([0.5, 1e-3 * 12**0.5], rel=1e-4)


def test_one_update_is_adamw_without_decay_on_biases_and_norms():
    """First AdamW step: p (1 - lr * decay) - lr * g / (|g| + eps), where the module is a gate block."""
    block = HighwayGate(GateShape(4, 3))
    for parameter in block.parameters():
        nn.init.normal_(parameter)
        parameter.grad = torch.full_like(parameter, 1e-3)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    settings = OptimConfig(lr=0.1, weight_decay=0.5, eps=1e-3, beta1=0.8, beta2=0.9)
    Updater({"": Part([block], settings, total_step=2, warmup_step=0)}).step()
    for name, value in block.state_dict().items():
        kept = before[name] * (1 - 0.1 * 0.5) if name == "linear.weight" else before[name]
        torch.testing.assert_close(value, kept - 0.1 * 1e-3 / (1e-3 + 1e-3), rtol=1e-5, atol=1e-6, msg=name)


def test_biases_and_norms_of_a_bert_do_not_decay(encoder):
    from fine_tune.model.classifier import Classifier
    from fine_tune.model.encoder import pretrained_encoder

    model = Classifier(pretrained_encoder(encoder), 2, 0.1)
    decay, keep = parameter_groups([model], 0.01)
    names = {parameter: name for name, parameter in model.named_parameters()}
    kept = {names[p] for p in keep["params"]}
    assert kept == {name for name in names.values() if name.endswith("bias") or "LayerNorm" in name}
    assert (decay["weight_decay"], keep["weight_decay"]) == (0.01, 0.0)
    assert len(decay["params"]) + len(keep["params"]) == len(names) and np.all([p.requires_grad for p in names])
    words = model.encoder.get_input_embeddings().weight
    rest = [p for group in parameter_groups([model], 0.01, without=words) for p in group["params"]]
    assert {names[p] for p in rest} == set(names.values()) - {"encoder.embeddings.word_embeddings.weight"}


def test_gradients_that_no_loss_scale_makes_finite_end_a_float16_run():
    layer = torch.nn.Linear(1, 1)
    updater = Updater({"": Part([layer], OptimConfig(lr=0.5), total_step=100, warmup_step=2)})
    updater.scaler = torch.amp.GradScaler("cpu")
    scales = []
    with pytest.raises(FloatingPointError, match="float16: gradients are infinite even at a loss scale of"):
        for _ in range(100):
            updater.backward(layer(torch.full((1, 1), torch.inf)).sum())
            scales.append(updater.step()["loss_scale"])
    assert scales[:2] == [2.0**15, 2.0**14] and len(scales) == 26
