"""Tests of our dropout: torch's own in distribution, in scale and in gradient, from torch's own generator."""

import pytest
import torch
from torch import nn

from fine_tune.flags.parser import Flags
from fine_tune.hardware.cpu.dropout import Dropout, drawn
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.model.placement import place


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_the_share_of_zeros_is_the_probability_and_the_rest_is_scaled_up(p):
    values = Dropout(p)(torch.ones(1000, 1000))
    zeros = float((values == 0).float().mean())
    assert zeros == pytest.approx(p, abs=5 * (p * (1 - p)) ** 0.5 / 1000)
    assert values[values != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-6)


def test_values_are_dropped_independently_of_each_other():
    """Also those whose bits come from the same draw."""
    dropped = (Dropout(0.5)(torch.ones(10**6)) == 0).float() - 0.5
    for gap in (1, 2, 3, 4, 5, 8):
        assert abs(float((dropped[gap:] * dropped[:-gap]).mean())) < 5 * 0.25 / 1000


def test_the_gradient_goes_through_what_was_kept():
    values = torch.randn(33, 7, requires_grad=True)
    out = Dropout(0.25)(values)
    out.sum().backward()
    kept = out != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(values.grad, kept / 0.75)
    torch.testing.assert_close(out, torch.where(kept, values / 0.75, torch.zeros(())))


def test_the_seed_decides_and_every_call_is_another():
    dropout, values = Dropout(0.5), torch.ones(1001)
    torch.manual_seed(1)
    one, other = dropout(values), dropout(values)
    torch.manual_seed(1)
    assert torch.equal(dropout(values), one) and not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3, 5), (4, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_shape_and_format_is_kept(shape, dtype):
    out = Dropout(0.5)(torch.ones(shape, dtype=dtype))
    assert out.shape == shape and out.dtype == dtype


def test_values_that_do_not_lie_in_order_are_read_right():
    values = torch.arange(1.0, 13.0).view(3, 4).t()
    out = Dropout(0.5)(values)
    assert torch.equal(out, torch.where(out != 0, 2 * values, torch.zeros(())))


def test_nothing_is_dropped_in_evaluation_or_at_a_probability_of_zero():
    values = torch.randn(50)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)


def test_a_model_in_place_has_no_other_dropout_and_keeps_its_rates(encoder):
    model = Classifier(pretrained_encoder(encoder, 0.375), 2, 0.375)
    names = set(model.state_dict())
    place(model, torch.device("cpu"), Flags({}))
    found = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert {type(module) for module in found} == {Dropout} and {module.p for module in found} == {0.375}
    assert set(model.state_dict()) == names


def test_what_torch_compile_is_told_of_the_draws_is_true():
    torch.library.opcheck(drawn, (torch.ones(3, 5).t(), 0.5), test_utils=("test_schema", "test_faketensor"))
