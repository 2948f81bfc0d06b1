"""Operators by blocks of rows: the same results, few kernels, each made once, apart."""

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.activations import GELUActivation

from fine_tune.hardware.cpu.gelu import Gelu
from fine_tune.hardware.cpu.row_blocks import ROWS, by_block

LIMIT = ROWS


def double_and_add(rows: Tensor, other: Tensor) -> Tensor:
    """Work on each row alone."""
    assert len(rows) <= LIMIT
    return 2 * rows + other


@pytest.mark.parametrize("count", [1, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT, 3 * LIMIT + 7])
def test_blocks_give_what_all_rows_at_once_give(count: int) -> None:
    """Whole blocks, blocks of two sizes, one block alone."""
    rows, other = torch.randn(count, 5), torch.randn(5)
    assert torch.equal(by_block(double_and_add, (rows,), other), 2 * rows + other)


def test_a_kernel_is_made_once_in_a_thread_of_its_own() -> None:
    """And again for another shape, format or order of axes; blocks of a batch share theirs."""
    threads: list[int] = []

    def operator(rows: Tensor) -> Tensor:
        threads.append(threading.get_ident())
        return rows

    def made() -> int:
        others = [each for each in threads if each != threading.get_ident()]
        threads.clear()
        return len(others)

    by_block(operator, (torch.ones(4 * LIMIT + 3, 6),))
    assert made() == 2  # of 411 rows, and of 410
    by_block(operator, (torch.ones(2 * 410, 6),))
    assert made() == 0
    by_block(operator, (torch.ones(4 * LIMIT, 6),))
    assert made() == 1
    by_block(operator, (torch.ones(LIMIT, 6),))
    assert made() == 0
    by_block(operator, (torch.ones(6, LIMIT).t(),))
    assert made() == 1
    by_block(operator, (torch.ones(LIMIT, 6, dtype=torch.bfloat16),))
    assert made() == 1


def test_an_error_reaches_the_caller_and_no_kernel_counts_as_made() -> None:
    """Also the next time."""

    def broken(rows: Tensor) -> Tensor:
        raise RuntimeError("no memory")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no memory"):
            by_block(broken, (torch.ones(2, 3),))


def test_a_kernel_is_made_for_the_callers_number_of_threads() -> None:
    """oneDNN keeps kernels for a number of threads, and a new thread has all of the machine's."""
    counts: list[int] = []

    def operator(rows: Tensor) -> Tensor:
        counts.append(torch.get_num_threads())
        return rows

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        by_block(operator, (torch.ones(2, 3),))
    finally:
        torch.set_num_threads(before)
    assert counts == [1, 1]


def by_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes torch's GELU; bfloat16 it takes with AVX-512 only."""
    available: bool = torch.backends.mkldnn.is_available()
    return available and (dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_is_torchs(dtype: torch.dtype) -> None:
    """Values and gradients, to the last bit, for more rows than a block has; a gradient with another order of axes.

    Without oneDNN torch itself computes the last one otherwise than one in order: value by value, not in vectors, with
    another error function. Ours puts it in order first, and is then torch's, too.
    """
    values = torch.randn(60, 11, 24).to(dtype)
    turned = torch.randn(60, 24, 11).to(dtype).transpose(1, 2)

    def results(gelu: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        leaf = values.clone().requires_grad_()
        out = gelu(leaf)
        out.backward(grad)
        assert leaf.grad is not None
        return out, leaf.grad

    out, mine = results(Gelu(), turned)
    for other, grad in results(Gelu(), turned.contiguous()), results(F.gelu, turned.contiguous()):
        assert torch.equal(out, other) and torch.equal(mine, grad)
    other, grad = results(F.gelu, turned)
    assert torch.equal(out, other)
    if by_onednn(dtype):
        assert torch.equal(mine, grad)
    else:
        torch.testing.assert_close(mine, grad, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_other_kinds_of_gelu_stay() -> None:
    """Written in Python, of a configuration that asks for it; in float64."""
    values = torch.randn(7, 3)
    mine, theirs = Gelu(use_gelu_python=True), GELUActivation(use_gelu_python=True)
    assert torch.equal(mine(values), theirs(values))
    assert torch.equal(Gelu()(values.double()), F.gelu(values.double()))
