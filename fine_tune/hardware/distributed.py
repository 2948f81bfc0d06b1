"""One process per device, started by `torchrun`; a run without it is a world of one. The engine is torch's own DDP.

Every process takes its share of each update's rows (`batches.updates`), gradients are averaged in the backward pass,
and the first process alone writes. The frozen teacher is not wrapped: nothing of it is exchanged.
"""

import atexit
import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fine_tune.hardware.rank import is_main, world_size

Item = TypeVar("Item")


def start(device: torch.device) -> None:
    """Join the other processes, if there are any; torchrun ends all of them if one dies."""
    if world_size() > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # Long, because the first process may fill a cache meanwhile; torchrun sees at once when one dies.
        # gloo, too, beside a GPU: what concerns the processes alone must not wait for it.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=12))
        atexit.register(stop)


def stop() -> None:
    """Leave, at exit: once no wrapped module is left, not those of an uncaught error's frames either.

    DDP frees the group with the interpreter's lock in hand, and gloo's threads may still ask for it: whoever frees the
    group last must be torch.distributed, which lets go of the lock (pytorch/pytorch#56297).
    """
    for name in ("last_exc", "last_value", "last_traceback"):
        vars(sys).pop(name, None)
    gc.collect()
    dist.destroy_process_group()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the first process go through a block before the others, which then find what it left on disk."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def on_main(work: Callable[[], object]) -> None:
    """Let the first process do something while the others wait; what it refuses, all refuse.

    Raises:
        ValueError: As the first process.
        OSError: As the first process.
    """
    error: Exception | None = None
    if is_main():
        try:
            work()
        except (ValueError, OSError) as refused:
            error = refused
    (error, *_) = gather(error)
    if error:
        raise error


def barrier() -> None:
    """Wait for the others."""
    if dist.is_initialized():
        dist.barrier()


def add_up(values: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def largest(number: int) -> int:
    """Give the largest of the processes' numbers."""
    if not dist.is_initialized():
        return number
    numbers = torch.tensor(number)
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return int(numbers)


def gather(thing: Item) -> list[Item]:
    """Collect one thing of every process, in order."""
    things = [thing] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(things, thing)
    return things


def wrap(module: nn.Module, staged: bool = False) -> nn.Module:
    """Let the processes share a module's gradients, and start from the first one's weights.

    Args:
        module: What is trained.
        staged: Some of it learns nothing in some updates, and then has no gradient.
    """
    if world_size() == 1 or not any(weights.requires_grad for weights in module.parameters()):
        return module
    return DistributedDataParallel(
        module, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=staged
    )


def unwrap(module: nn.Module) -> nn.Module:
    """Give the module itself."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def micro_batches(update: list[Item], *modules: nn.Module) -> Iterator[Item]:
    """Give the micro-batches of an update; gradients are exchanged in the last one's backward pass only."""
    with contextlib.ExitStack() as quiet:
        for module in modules:
            if isinstance(module, DistributedDataParallel) and len(update) > 1:
                quiet.enter_context(module.no_sync())
        yield from update[:-1]
    yield update[-1]
