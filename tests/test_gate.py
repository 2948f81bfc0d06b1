"""Tests of the gate block and of the chain against the independent NumPy reference."""

import numpy as np
import pytest
import reference
import torch
from torch import Tensor

from fine_tune.model import HighwayGate
from fine_tune.model.gate import GateChain

B, S, D, LAYERS = 3, 7, 6, 4
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=torch.float32)


def random_block(length: int = S) -> HighwayGate:
    """A block whose norm is not the identity."""
    block = HighwayGate(D, length)
    torch.nn.init.normal_(block.layernorm.weight)
    torch.nn.init.normal_(block.layernorm.bias)
    return block


def random_chain(layer_map: list[int], reverse: bool = False) -> GateChain:
    """A chain whose norms are not the identity."""
    chain = GateChain(D, S, LAYERS, layer_map, reverse)
    for parameter in chain.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return chain


def arrays(block: HighwayGate) -> tuple:
    """The parameters as the reference takes them."""
    linear, norm = block.linear, block.layernorm
    return tuple(tuple(p.detach().double().numpy() for p in (part.weight, part.bias)) for part in (linear, norm))


def states(count: int = LAYERS) -> list[Tensor]:
    """Random teacher layers."""
    return [torch.randn(B, S, D) for _ in range(count)]


def double(values: list[Tensor]) -> list:
    """As the reference takes them."""
    return [value.detach().double().numpy() for value in values]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_block_equals_the_reference(masked, dtype, tolerance):
    block, (previous, current) = random_block(S + 2).to(dtype), states(2)
    mask = MASK if masked else None
    got = block(previous.to(dtype), current.to(dtype), mask)
    want = reference.gate(*double([previous, current]), *arrays(block), MASK.numpy() if masked else None)
    real = (MASK if masked else torch.ones_like(MASK)).bool().numpy()
    assert got.dtype == dtype
    np.testing.assert_allclose(got.detach().numpy()[real], want[real], rtol=tolerance, atol=tolerance)


def test_state_dict_is_the_released_one():
    shapes = {name: tuple(value.shape) for name, value in HighwayGate(D, S).state_dict().items()}
    assert shapes == {
        "linear.weight": (D, D), "linear.bias": (D,), "layernorm.weight": (S, D), "layernorm.bias": (S, D),
    }  # fmt: skip


def test_block_starts_xavier_uniform_with_an_identity_norm():
    block = HighwayGate(64, S)
    bound = (6 / 128) ** 0.5
    assert bound * 0.95 < block.linear.weight.abs().max() <= bound
    assert 0 < block.linear.bias.abs().max() <= 1 / 8
    assert (block.layernorm.weight == 1).all() and (block.layernorm.bias == 0).all()


def test_unmasked_at_full_length_is_the_released_formula():
    block, (previous, current) = random_block(), states(2)
    g = torch.sigmoid(block.linear(previous))
    released = block.layernorm(current * g + previous * (1 - g))  # torch.nn.LayerNorm((S, D))
    torch.testing.assert_close(block(previous, current), released, rtol=1e-5, atol=1e-6)


def test_full_mask_changes_nothing():
    block, (previous, current) = random_block(), states(2)
    torch.testing.assert_close(
        block(previous, current, torch.ones(B, S)), block(previous, current), rtol=1e-5, atol=1e-5
    )


def test_real_tokens_depend_neither_on_the_amount_nor_on_the_content_of_padding():
    block, (previous, current) = random_block(), states(2)
    short = block(previous[1:2, :3], current[1:2, :3], torch.ones(1, 3))
    got = block(previous, current, MASK)[1:2, :3]
    torch.testing.assert_close(got, short, rtol=1e-5, atol=1e-6)
    noisy = [torch.where(MASK[..., None] > 0, value, torch.full_like(value, 1e3)) for value in (previous, current)]
    torch.testing.assert_close(block(*noisy, MASK)[MASK > 0], block(previous, current, MASK)[MASK > 0])


@pytest.mark.parametrize("masked", [False, True])
def test_opening_is_the_mean_of_the_gate_over_real_tokens(masked):
    block, (previous, current) = random_block(), states(2)
    block(previous, current, MASK if masked else None)
    g = torch.sigmoid(block.linear(previous))
    want = g[MASK > 0].mean() if masked else g.mean()
    assert block.opening.item() == pytest.approx(want.item(), rel=1e-5)
    assert block.opening.ndim == 0 and not block.opening.requires_grad


def test_openings_are_named_by_the_teacher_layer_from_one():
    chain = random_chain([1, 3])
    _, openings = chain(states(), MASK)
    assert list(openings) == ["gate_2", "gate_3", "gate_4"]
    assert all(0 < value < 1 and not value.requires_grad for value in openings.values())
    assert openings["gate_3"] is chain.blocks["2"].opening
    _, openings = random_chain([1, 3], reverse=True)(states(), MASK)
    assert list(openings) == ["gate_3", "gate_2"]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("layer_map", [[1, 3], [0, 1, 2, 3], [3], [0, 2]])
def test_chain_equals_the_reference(layer_map, reverse, masked):
    chain, layers = random_chain(layer_map, reverse), states()
    blocks = {int(layer): arrays(block) for layer, block in chain.blocks.items()}
    mask = MASK if masked else None
    want = reference.chain(double(layers), blocks, layer_map, MASK.numpy() if masked else None, reverse)
    real = (MASK if masked else torch.ones_like(MASK)).bool().numpy()
    got, _ = chain(layers, mask)
    assert len(got) == len(layer_map)
    for one, other in zip(double(got), want, strict=True):
        np.testing.assert_allclose(one[real], other[real], rtol=1e-5, atol=1e-5)


def test_the_chain_starts_with_a_plain_teacher_layer():
    layers = states()
    assert torch.equal(random_chain([0, 3])(layers)[0][0], layers[0])
    assert torch.equal(random_chain([0, 3], reverse=True)(layers)[0][1], layers[3])


def test_the_chain_reads_only_the_layers_of_its_order():
    chain, layers = random_chain([0, 2]), states()
    some = {layer: layers[layer] for layer in chain.order}
    assert sorted(some) == [0, 1, 2]
    for one, other in zip(chain(some)[0], chain(layers)[0], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("layer_map", "reverse", "built"),
    [
        ([1, 3], False, "123"), ([0, 1], False, "1"), ([0], False, ""), ([1, 3], True, "21"), ([3], True, ""),
        ([0], True, "210"),
    ],
)  # fmt: skip
def test_only_blocks_that_a_student_layer_needs_are_built(layer_map, reverse, built):
    assert "".join(GateChain(D, S, LAYERS, layer_map, reverse).blocks) == built


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("layer_map", "reverse"), [([1, 3], False), ([3], False), ([0, 1], False), ([1, 3], True), ([0], True)]
)
def test_every_gate_gets_a_gradient_and_the_teacher_is_only_read(layer_map, reverse, masked):
    chain, layers = random_chain(layer_map, reverse), states()
    kept = [layer.clone() for layer in layers]
    sum(target.square().sum() for target in chain(layers, MASK if masked else None)[0]).backward()
    for name, parameter in chain.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(torch.equal(one, other) for one, other in zip(layers, kept, strict=True))
