"""Attention written out is attention: results and gradients against float64, under a mask, with dropout."""

import pytest
import torch

from fine_tune.flags.parser import Flags
from fine_tune.hardware.cpu.attention import attend
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.model.placement import place

MASK = (torch.arange(9)[None, :] < torch.tensor([[9], [4], [1]]))[:, None, None, :].expand(-1, 1, 9, -1)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.03}


def heads(dtype: torch.dtype, rows: int = 3, tokens: int = 9) -> list[torch.Tensor]:
    """Random query, key and value (B, H, S, D / H)."""
    return [torch.randn(rows, 12, tokens, 32).to(dtype).requires_grad_() for _ in range(3)]


def assert_same(got, given, mask, scaling, factor):
    """Compare with attention in float64, whose weights are multiplied by `factor`: results and gradients."""
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    query, key, value = exact
    scores = torch.einsum("bhsd,bhtd->bhst", query, key) * scaling
    weights = (scores if mask is None else scores + torch.where(mask, 0.0, -1e30)).softmax(-1)
    want = (weights * factor) @ value
    grad = torch.randn(got.shape)
    got.backward(grad.to(got.dtype))
    want.backward(grad.double())
    assert got.dtype == given[0].dtype
    tolerance = TOLERANCE[got.dtype]
    torch.testing.assert_close(got, want, check_dtype=False, rtol=tolerance, atol=tolerance)
    for mine, theirs in zip(given, exact, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, check_dtype=False, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("scaling", [None, 0.1])
def test_results_and_gradients_are_those_of_float64(dtype, mask, scaling):
    given = heads(dtype)
    assert_same(attend(*given, mask, 0.0, scaling), given, mask, scaling or 32**-0.5, torch.ones(()))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_dropout_drops_its_share_of_the_weights_and_scales_up_the_others(dtype):
    query, key, _ = heads(dtype, 20, 32)
    every_weight = torch.eye(32, dtype=dtype).expand(20, 12, -1, -1)  # the output is the weights themselves
    weights = attend(query, key, every_weight, None, 0.0, None)
    dropped = attend(query, key, every_weight, None, 0.25, None)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.01)  # of 245,760: 11 standard deviations
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gradients_under_dropout_are_those_of_float64_with_the_same_weights_dropped(dtype, mask):
    given = heads(dtype)
    every_weight = torch.eye(9, 32).to(dtype).expand(3, 12, -1, -1)  # the output is the weights themselves
    torch.manual_seed(1)
    kept = attend(*given[:2], every_weight, None, 0.25, None)[..., :9] != 0
    torch.manual_seed(1)
    assert_same(attend(*given, mask, 0.25, None), given, mask, 32**-0.5, kept / 0.75)


def test_padding_has_no_weight_under_dropout():
    query, key, value = heads(torch.float32)
    loud = torch.where(MASK[:, 0, 0, :, None][:, None], value, 1e6)
    assert attend(query, key, loud, MASK, 0.1, None).abs().max() < 100


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("tokens", [5, 13, 40])
def test_a_sentence_does_not_depend_on_the_others_to_the_last_bit(dtype, tokens):
    given = [tensor.detach() for tensor in heads(dtype, 40, tokens)]
    whole = attend(*given, None, 0.0, None)
    for rows in (1, 2, 7, 31):
        assert torch.equal(attend(*(tensor[3 : 3 + rows] for tensor in given), None, 0.0, None), whole[3 : 3 + rows])


@pytest.mark.parametrize("kind", ["bert", "albert"])
def test_models_attend_so_and_agree_with_the_library(kind, request):
    model = Classifier(pretrained_encoder(request.getfixturevalue({"bert": "encoder"}.get(kind, kind))), 2, 0.0).eval()
    ids = torch.randint(5, 60, (4, 9))
    mask = torch.arange(9)[None, :] < torch.tensor([[9], [4], [1], [7]])
    inputs = {"input_ids": ids, "attention_mask": mask.long(), "token_type_ids": torch.zeros_like(ids)}
    want = model(**inputs)
    place(model, torch.device("cpu"), Flags({}))
    assert model.encoder.config._attn_implementation == "on_cpu"
    assert "on_cpu" not in model.encoder.config.to_json_string()  # other programs read a run's encoder.json
    got = model(**inputs)
    torch.testing.assert_close(got.logits, want.logits, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(got.hidden_states, want.hidden_states, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
