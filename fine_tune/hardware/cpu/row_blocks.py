"""Operators on a CPU, applied to a block of rows at a time, so that oneDNN keeps few kernels.

oneDNN builds a kernel of half a megabyte for every number of rows that an operator meets, a dozen for every sentence
length, and keeps them all. In blocks, few numbers of rows occur. Allocated among tensors, a kernel would fragment the
heap for good, so it is built in a separate thread, for which glibc uses another arena.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

ROWS = 512
"""Most rows of a block: smaller blocks are slower, larger ones mean more kernels."""

Operator = Callable[..., Tensor]

_made: set[tuple[object, ...]] = set()


def by_block(operator: Operator, rows: tuple[Tensor, ...], *others: Tensor | None) -> Tensor:
    """Compute `operator(*rows, *others)` a block at a time, where every row of the result depends on its own alone.

    Args:
        operator: A function of a module, which has no other state.
        rows: Tensors (N, ..) of which each row of the result needs one row.
        others: What every block needs whole.

    Returns:
        (N, ..).
    """
    count = len(rows[0])
    if count <= ROWS:
        return computed(operator, *rows, *others)
    blocks = -(-count // ROWS)  # of nearly the same size: none is so small that oneDNN sums in another order
    result: Tensor | None = None
    start = 0
    for block in zip(*(each.tensor_split(blocks) for each in rows), strict=True):
        made = computed(operator, *block, *others)
        if result is None:
            result = made.new_empty(count, *made.shape[1:])
        result[start : start + len(made)] = made
        start += len(made)
    assert result is not None
    return result


def computed(operator: Operator, *arguments: Tensor | None) -> Tensor:
    """Compute `operator(*arguments)`; for new shapes run it once before in a separate thread, to build its kernel."""
    threads = torch.get_num_threads()
    shapes = (None if each is None else (each.shape, each.stride(), each.dtype) for each in arguments)
    kernel = (operator, threads, *shapes)
    if kernel not in _made:
        with ThreadPoolExecutor(1) as apart:
            apart.submit(make, operator, threads, arguments).result()
        _made.add(kernel)
    return operator(*arguments)


@torch.no_grad()
def make(operator: Operator, threads: int, arguments: tuple[Tensor | None, ...]) -> None:
    """Run an operator to have its kernel built, for a given number of threads."""
    torch.set_num_threads(threads)
    operator(*arguments)
