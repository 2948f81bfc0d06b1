"""Products by oneDNN are float32 products: results and gradients against float64, rows independent of each other."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fine_tune.hardware.cpu import linear
from fine_tune.hardware.cpu.linear import Linear
from fine_tune.hardware.cpu.row_blocks import ROWS

needs_avx512 = pytest.mark.skipif(not linear.AVAILABLE, reason="a processor without AVX-512 goes torch's way")


@pytest.mark.parametrize("shape", [(5, 7, 48), (32, 48), (1, 48), (3, 1, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_those_of_float64(shape: tuple[int, ...], bias: bool) -> None:
    """All three gradients, for rows of two and three dimensions."""
    layer = Linear(48, 20, bias=bias)
    exact = nn.Linear(48, 20, bias=bias).double()
    exact.load_state_dict(layer.state_dict())
    rows = torch.randn(shape, requires_grad=True)
    exact_rows = rows.detach().double().requires_grad_()
    grad = torch.randn(*shape[:-1], 20)

    layer(rows).backward(grad)
    exact(exact_rows).backward(grad.double())
    torch.testing.assert_close(layer(rows).double(), exact(exact_rows), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows.grad, exact_rows.grad, check_dtype=False, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, check_dtype=False, atol=1e-5, rtol=1e-5)


@needs_avx512
@pytest.mark.parametrize("count", [ROWS + 1, 3 * ROWS])
def test_gradients_of_several_blocks_add_up(count: int) -> None:
    """As those of one block do."""
    layer, rows, grad = Linear(48, 20), torch.randn(count, 48), torch.randn(count, 20)
    layer(rows).backward(grad)
    exact = grad.double().t() @ rows.double()
    assert layer.weight.grad is not None
    assert (layer.weight.grad - exact).abs().max() <= 1e-6 * exact.abs().max()


def test_rows_with_gaps_and_transposed_gradients() -> None:
    """[CLS] states are every S-th row of a batch; attention hands back gradients in another order of axes."""
    layer = Linear(16, 12)
    states = torch.randn(4, 9, 16, requires_grad=True)
    out = layer(states[:, 0])
    out.t().contiguous().square().sum().backward()
    weight = 2 * out.detach().t() @ states.detach()[:, 0]
    torch.testing.assert_close(layer.weight.grad, weight)
    assert states.grad is not None and not states.grad[:, 1:].any()


@needs_avx512
def test_onednn_is_called() -> None:
    """For float32 forward, and both products backward; not for float64, nor under autocast."""

    class Called(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(str(func))
            return func(*args, **(kwargs or {}))

    called = list[str]()
    layer, rows = Linear(16, 12), torch.randn(4, 16, requires_grad=True)
    with Called():
        layer(rows).sum().backward()
        assert called.count("mkldnn._linear_pointwise.default") == 3
        Linear(16, 12).double()(rows.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(rows).dtype == torch.bfloat16
    assert called.count("mkldnn._linear_pointwise.default") == 3


def test_bfloat16_gathers_the_weights_gradient_in_float32() -> None:
    """As near to float64 as torch's own layer under autocast, or nearer; every gradient in its parameter's format."""
    rows, grad = torch.randn(1500, 48), torch.randn(1500, 20)
    exact = nn.Linear(48, 20).double()
    (exact(rows.double()) * grad.double()).sum().backward()
    errors = []
    for kind in (Linear, nn.Linear):
        layer = kind(48, 20)
        layer.load_state_dict(exact.state_dict())
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(rows)
        assert out.dtype == torch.bfloat16
        (out * grad).sum().backward()
        assert layer.weight.grad.dtype == layer.bias.grad.dtype == torch.float32
        errors.append((layer.weight.grad - exact.weight.grad).abs().mean().item())
    assert errors[0] <= 1.1 * errors[1]


@needs_avx512
@pytest.mark.parametrize("width", [384, 1536])
def test_a_row_does_not_depend_on_the_others(width: int) -> None:
    """To the last bit, which a teacher's cache relies on."""
    layer, rows = Linear(width, 96), torch.randn(700, width)
    with torch.no_grad():
        whole = layer(rows)
        for count in (1, 2, 3, 7, 13, 32, 64, 416, 513, 520, 699):
            assert torch.equal(layer(rows[1 : 1 + count]), whole[1 : 1 + count]), count
