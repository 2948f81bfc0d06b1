"""Tests of the gate block, of the chain and of gates without one against the independent NumPy reference."""

from typing import TypeVar

import numpy as np
import pytest
import reference
import torch
from torch import Tensor

from benchmarks.released import ReleasedGate
from fine_tune.model.gate import GateChain, GatePairs, GateShape, HighwayGate, spread

B, S, D, LAYERS = 3, 7, 6, 4
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=torch.float32)
MAPS = [{0: 1, 1: 3}, {0: 0, 1: 1, 2: 2, 3: 3}, {0: 3}, {0: 0, 1: 2}, {1: 2}, {0: 2, 1: 2, 3: 1}]


def random_block(length: int = S, norm: str = "seq") -> HighwayGate:
    """A block whose norm is not the identity."""
    block = HighwayGate(GateShape(D, length, norm))
    torch.nn.init.normal_(block.layernorm.weight)
    torch.nn.init.normal_(block.layernorm.bias)
    return block


Gates = TypeVar("Gates", GateChain, GatePairs)


def shaken(gates: Gates) -> Gates:
    """Gates whose norms are not the identity."""
    for parameter in gates.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return gates


def random_chain(layer_map: dict[int, int], reverse: bool = False, norm: str = "seq") -> GateChain:
    """A chain whose norms are not the identity."""
    return shaken(GateChain(GateShape(D, S, norm), LAYERS, layer_map, reverse))


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


def assert_equals(got: dict[int, Tensor], want: dict[int, np.ndarray], masked: bool) -> None:
    """The same student layers have the same targets, on real tokens."""
    real = (MASK if masked else torch.ones_like(MASK)).bool().numpy()
    assert list(got) == list(want)
    for layer, target in got.items():
        np.testing.assert_allclose(target.detach().numpy()[real], want[layer][real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["seq", "token"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_block_equals_the_reference(masked, dtype, tolerance, norm):
    block, (previous, current) = random_block(S + 2, norm).to(dtype), states(2)
    mask = MASK if masked else None
    got = block(previous.to(dtype), current.to(dtype), mask)
    want = reference.gate(*double([previous, current]), *arrays(block), MASK.numpy() if masked else None, norm)
    real = (MASK if masked else torch.ones_like(MASK)).bool().numpy()
    assert got.dtype == dtype
    np.testing.assert_allclose(got.detach().numpy()[real], want[real], rtol=tolerance, atol=tolerance)


def test_with_a_norm_per_token_a_token_does_not_depend_on_the_others():
    (token, seq), (previous, current) = (random_block(norm=norm) for norm in ("token", "seq")), states(2)
    apart, together = (block(previous, current)[:, :2] for block in (token, seq))
    previous[:, 2:], current[:, 2:] = 7.0, -3.0
    torch.testing.assert_close(token(previous, current)[:, :2], apart)
    assert not torch.allclose(seq(previous, current)[:, :2], together)


@pytest.mark.parametrize(("bias", "share"), [(3.0, 0.95), (-3.0, 0.05)])
def test_the_bias_opens_or_closes_the_gate_at_the_start(bias, share):
    block, (previous, current) = HighwayGate(GateShape(D, S, init_bias=bias)), states(2)
    assert (block.linear.bias == bias).all()
    torch.nn.init.zeros_(block.linear.weight)
    block(previous, current)
    assert block.opening.item() == pytest.approx(share, abs=0.005)
    plain = HighwayGate(GateShape(D, S, init_bias=0))
    assert plain.linear.bias.unique().numel() == D  # PyTorch's: at random


def test_state_dict_is_the_released_one():
    shapes = {name: tuple(value.shape) for name, value in random_block().state_dict().items()}
    assert shapes == {
        "linear.weight": (D, D), "linear.bias": (D,), "layernorm.weight": (S, D), "layernorm.bias": (S, D),
    }  # fmt: skip


def test_block_starts_xavier_uniform_with_an_identity_norm():
    block = HighwayGate(GateShape(64, S))
    bound = (6 / 128) ** 0.5
    assert bound * 0.95 < block.linear.weight.abs().max() <= bound
    assert 0 < block.linear.bias.abs().max() <= 1 / 8
    assert (block.layernorm.weight == 1).all() and (block.layernorm.bias == 0).all()


def test_unmasked_at_full_length_is_the_released_formula():
    block, (previous, current) = random_block(), states(2)
    released = ReleasedGate(D, S)
    released.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(previous, current), released(previous, current), rtol=1e-5, atol=1e-6)


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
    g = reference.opening(*double([previous]), arrays(block)[0])
    want = g[MASK.numpy() > 0].mean() if masked else g.mean()
    assert block.opening.item() == pytest.approx(want.item(), rel=1e-5)
    assert block.opening.ndim == 0 and not block.opening.requires_grad


def test_openings_are_named_by_the_teacher_layer_from_one():
    chain = random_chain({0: 1, 1: 3})
    _, openings = chain(states(), MASK)
    assert list(openings) == ["gate_2", "gate_3", "gate_4", "target_spread"]
    assert all(0 < value < 1 and not value.requires_grad for value in openings.values())
    assert openings["gate_3"] is chain.blocks["2"].opening
    _, openings = random_chain({0: 1, 1: 3}, reverse=True)(states(), MASK)
    assert list(openings) == ["gate_3", "gate_2", "target_spread"]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("norm", ["seq", "token"])
@pytest.mark.parametrize("layer_map", MAPS, ids=str)
def test_chain_equals_the_reference(layer_map, norm, reverse, masked):
    chain, layers = random_chain(layer_map, reverse, norm), states()
    blocks = {int(layer): arrays(block) for layer, block in chain.blocks.items()}
    want = reference.chain(double(layers), blocks, layer_map, MASK.numpy() if masked else None, reverse, norm)
    assert_equals(chain(layers, MASK if masked else None)[0], want, masked)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", ["seq", "token"])
@pytest.mark.parametrize("layer_map", MAPS, ids=str)
def test_gates_without_a_chain_equal_the_reference(layer_map, norm, masked):
    """Student layer l gets gate(t_{i-1}, t_i), for i = 1 gate(embedding, t_1); `layers` holds the embedding last."""
    pairs, layers = shaken(GatePairs(GateShape(D, S, norm), layer_map)), states(LAYERS + 1)
    assert "".join(pairs.blocks) == "".join(str(layer) for layer in sorted(set(layer_map.values())))
    blocks = {int(layer): arrays(block) for layer, block in pairs.blocks.items()}
    read = {layer: layers[layer] for layer in range(-1, LAYERS)}
    assert pairs.reads == tuple(sorted({other for layer in layer_map.values() for other in (layer - 1, layer)}))
    got, openings = pairs({layer: read[layer] for layer in pairs.reads}, MASK if masked else None)
    mask = MASK.numpy() if masked else None
    assert_equals(got, reference.pairs(double(layers), blocks, layer_map, mask, norm), masked)
    assert list(openings) == [*(f"gate_{layer + 1}" for layer in sorted(set(layer_map.values()))), "target_spread"]


@pytest.mark.parametrize("masked", [False, True])
def test_the_spread_is_that_of_the_student_layer_whose_targets_are_most_alike(masked):
    """1 - |mean vector|^2 / mean |vector|^2, over real tokens."""
    chain, layers = random_chain({0: 1, 1: 3}), states()
    targets, seen = chain(layers, MASK if masked else None)
    real = (MASK if masked else torch.ones_like(MASK)).bool().numpy()
    vectors = [target[real] for target in double(targets.values())]
    want = min(1 - (v.mean(0) ** 2).sum() / (v**2).sum(1).mean() for v in vectors)
    assert seen["target_spread"].item() == pytest.approx(want, rel=1e-5)
    assert spread(torch.ones(2, 3, 4), None) == 0


def test_the_chain_starts_with_a_plain_teacher_layer():
    layers = states()
    assert torch.equal(random_chain({0: 0, 1: 3})(layers)[0][0], layers[0])
    assert torch.equal(random_chain({0: 0, 1: 3}, reverse=True)(layers)[0][1], layers[3])


def test_the_chain_reads_only_the_layers_of_its_order():
    chain, layers = random_chain({0: 0, 1: 2}), states()
    some = {layer: layers[layer] for layer in chain.order}
    assert tuple(some) == chain.reads == (0, 1, 2)
    want, _ = chain(layers)
    assert all(torch.equal(target, want[layer]) for layer, target in chain(some)[0].items())
    assert random_chain({0: 1, 1: 3}, reverse=True).reads == (1, 2, 3)


@pytest.mark.parametrize(
    ("layer_map", "reverse", "built"),
    [
        ({0: 1, 1: 3}, False, "123"), ({0: 0, 1: 1}, False, "1"), ({0: 0}, False, ""), ({1: 2}, False, "12"),
        ({0: 1, 1: 3}, True, "21"), ({0: 3}, True, ""), ({0: 0}, True, "210"), ({0: 3, 1: 2}, True, "2"),
    ],
)  # fmt: skip
def test_only_blocks_that_a_student_layer_needs_are_built(layer_map, reverse, built):
    assert "".join(GateChain(GateShape(D, S), LAYERS, layer_map, reverse).blocks) == built


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", ["seq", "token"])
@pytest.mark.parametrize(
    ("layer_map", "reverse"),
    [({0: 1, 1: 3}, False), ({0: 3}, False), ({0: 0, 1: 1}, False), ({0: 1, 1: 3}, True), ({0: 0}, True)],
    ids=str,
)
def test_every_gate_gets_a_gradient_and_the_teacher_is_only_read(layer_map, reverse, masked, norm):
    chain, layers = random_chain(layer_map, reverse, norm), states()
    kept = [layer.clone() for layer in layers]
    sum(target.square().sum() for target in chain(layers, MASK if masked else None)[0].values()).backward()
    for name, parameter in chain.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(torch.equal(one, other) for one, other in zip(layers, kept, strict=True))
