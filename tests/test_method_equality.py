"""Tests that keep the loops of all methods alike where they must be: weights of 0, micro-batches, gradients of targets.

Cross-method equalities: the start, the order of the data and dropout depend on the seed alone, never on the method.
"""

import pytest
import reference
import torch
from methods import EXACT, HIDDEN, METHODS, PROPORTIONAL, QUICK, flags

from fine_tune.layer_map import layer_map
from fine_tune.train.alp import attention_targets, full_reach, lower_reach
from fine_tune.train.pkd import cls_map, unit

LOSSES = ("loss", "soft_loss", "hard_loss")
FAST = {"partial_lad", "alp-kd-hidden-v2", "pkd-last"}
TRAINED = (*QUICK, "--teacher_exp", "teacher", "--lr", 0.01, "--softmax_temp", 3)


def losses(data, experiment: str, names=LOSSES) -> dict[str, list[float]]:
    """Losses of every logged step."""
    return {name: [line[name] for line in data.metrics(experiment)] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "dropout"),
    [pytest.param(method, dropout, marks=[] if method in FAST and dropout else pytest.mark.slow)
     for method in HIDDEN for dropout in (0, 0.1)],
)  # fmt: skip
def test_without_the_hidden_loss_every_method_is_kd(method, dropout, data, run, teacher):
    base = (*TRAINED, "--dropout", dropout)
    script, *words = flags(method, *base, mu=0, gate={"lr": 0.5})
    run(script, "--experiment", "x", *words)
    run("run_kd_distil", "--experiment", "kd", *base)
    want = losses(data, "kd")
    assert losses(data, "x") == {name: pytest.approx(values, rel=1e-6) for name, values in want.items()}
    one, other = data.state("x", 4), data.state("kd", 4)
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_with_the_gold_labels_alone_every_method_is_plain_fine_tuning(method, data, run, teacher):
    base = (*QUICK, "--teacher_exp", "teacher", "--dropout", 0.1, "--lr", 0.01)
    script, *words = flags(method, *base, "--soft_weight", 0, "--hard_weight", 1, mu=0)
    run(script, "--experiment", "x", *words)
    run("run_student_fine_tune", "--experiment", "plain", *base)
    (want,) = losses(data, "plain", ("loss",)).values()
    assert losses(data, "x", ("loss", "hard_loss")) == {
        "loss": pytest.approx(want, rel=1e-6), "hard_loss": pytest.approx(want, rel=1e-6),
    }  # fmt: skip


SPLITS = [(method, 4, ()) for method in METHODS]
SPLITS += [(method, 2, ()) for method in ("lad_no", "alp-kd-hidden", "pkd-skip")]
SPLITS += [(method, 4, ("--gate_norm_init", "teacher")) for method in ("lad", "lad_cls")]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "accum", "more"), SPLITS, ids=str)
def test_accumulation_changes_nothing(method, accum, more, data, run, teacher):
    script, *words = flags(method, *EXACT, *more, gate=PROPORTIONAL)
    plain = [word for name, value in PROPORTIONAL.items() for word in (f"--{name}", value)]
    run(script, "--experiment", "one", *words, *plain)
    run(script, "--experiment", "many", *words, *plain, "--accum_step", accum)
    names = [name for name in data.metrics("one")[0] if name.endswith("loss")]
    want = losses(data, "one", names)
    assert losses(data, "many", names) == {
        name: pytest.approx(values, rel=1e-5, abs=1e-6) for name, values in want.items()
    }  # fmt: skip
    assert max(want["loss"]) > 1.001 * min(want["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_another_batch_size_order_or_temperature_is_heard(method, data, run, teacher):
    """So that the equalities above compare something."""
    script, *words = flags(method, *EXACT)
    first = {}
    for name, more in {"plain": (), "hot": ("--softmax_temp", 9), "other": ("--seed", 1)}.items():
        run(script, "--experiment", name, *words, *more)
        first[name] = data.metrics(name)[0]["soft_loss"]
    assert len(set(first.values())) == 3


B, S, D, TEACHER, STUDENT = 3, 5, 8, 4, 2
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.float32)


def states(count: int, grad: bool = False) -> list[torch.Tensor]:
    """Random layers."""
    return [torch.randn(B, S, D, requires_grad=grad) for _ in range(count)]


REACH = {"all": full_reach(TEACHER, STUDENT), "lower": lower_reach(layer_map("even", TEACHER, STUDENT))}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reach", REACH.values(), ids=REACH)
def test_attention_targets_equal_the_reference(reach, masked):
    student, teacher = states(STUDENT), states(TEACHER)
    targets, attention = attention_targets(student, dict(enumerate(teacher)), reach, MASK if masked else None)
    assert attention.shape == (STUDENT, TEACHER) and list(targets) == list(reach)
    real = MASK.bool().numpy() if masked else slice(None)
    for number, within in reach.items():
        seen = [teacher[layer].double().numpy() for layer in within]
        weights, want = reference.attention(student[number].double().numpy(), seen)
        torch.testing.assert_close(targets[number].double(), torch.from_numpy(want), rtol=1e-5, atol=1e-5)
        shown = weights[real].reshape(-1, len(within)).mean(0)
        assert attention[number, : len(within)].tolist() == pytest.approx(shown.tolist(), rel=1e-5)
        assert attention[number].sum().item() == pytest.approx(1, rel=1e-6)
        assert not attention[number, len(within) :].any() and not attention.requires_grad


def test_v2_never_looks_above_the_layer_that_a_student_layer_is_mapped_to():
    assert REACH["lower"] == {0: [0, 1], 1: [0, 1, 2, 3]} and REACH["all"] == dict.fromkeys((0, 1), [0, 1, 2, 3])
    assert lower_reach(layer_map("2:2", TEACHER, STUDENT)) == {1: [0, 1]}
    student, teacher = states(STUDENT), states(TEACHER)
    for reach, changes in (REACH["lower"], False), (REACH["all"], True):
        before, _ = attention_targets(student, dict(enumerate(teacher)), reach)
        other = [*teacher[:2], *states(2)]
        after, _ = attention_targets(student, dict(enumerate(other)), reach)
        assert torch.equal(before[0], after[0]) != changes
        assert not torch.equal(before[1], after[1])


def test_the_students_gradient_reaches_its_attention_unless_it_is_cut_off():
    """The target depends on the student through the weights alone; a position looks at no other."""
    teacher = dict(enumerate(states(TEACHER)))
    student = states(STUDENT, grad=True)
    targets, _ = attention_targets(student, teacher, REACH["all"], detach=True)
    assert not any(target.requires_grad for target in targets.values())
    targets, _ = attention_targets(student, teacher, REACH["all"])
    targets[0][:, 1].square().sum().backward()
    assert student[1].grad is None
    moved = student[0].grad.abs().sum(-1) > 0  # (B, S)
    assert moved[:, 1].all() and moved.sum() == B
    assert all(not layer.requires_grad for layer in teacher.values())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["alp-kd", "alp-kd-hidden", "alp-kd-hidden-v2"])
def test_detach_target_changes_the_gradient_and_not_the_loss(method, data, run, teacher):
    script, *words = flags(method, *EXACT, "--lr", 0.01, "--warmup_step", 0)
    run(script, "--experiment", "through", *words)
    run(script, "--experiment", "cut", *words, "--detach_target")
    through, cut = (losses(data, name, ("hidden_loss",))["hidden_loss"] for name in ("through", "cut"))
    assert cut[0] == through[0] and cut[1] != pytest.approx(through[1], rel=1e-3)
    assert (data.config("through")["detach_target"], data.config("cut")["detach_target"]) == (False, True)


def test_the_map_of_published_pkd_leaves_out_the_last_student_layer():
    assert cls_map("pkd-skip", None, 12, 6) == {0: 1, 1: 3, 2: 5, 3: 7, 4: 9}  # the paper's 2, 4, 6, 8, 10
    assert cls_map("pkd-last", None, 12, 6) == {0: 6, 1: 7, 2: 8, 3: 9, 4: 10}  # the paper's 7, 8, .., 11
    assert cls_map("pkd-skip", None, 12, 3) == {0: 3, 1: 7}
    with pytest.raises(ValueError, match="--pkd_exp pkd-last leaves the last student layer to the logits: .* 2 layers"):
        cls_map("pkd-last", None, 4, 1)


def test_published_pkd_compares_directions_alone():
    vectors = torch.randn(B, D, dtype=torch.float64)
    want = torch.from_numpy(reference.unit(vectors.numpy()))
    torch.testing.assert_close(unit(vectors).double(), want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(unit(7 * vectors), unit(vectors))
    assert unit(vectors).norm(dim=1).tolist() == pytest.approx([1] * B, rel=1e-6)
