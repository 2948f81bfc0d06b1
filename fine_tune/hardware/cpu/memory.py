"""Memory of a process on a CPU: what is kept from step to step, what is given back, what is never taken."""

import ctypes
import platform
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import torch
from torch import Tensor

GLIBC = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def keep_freed_memory() -> None:
    """Let the C library keep the memory of large tensors for the next step, where it is glibc.

    By default it gives them back and asks anew: some 10,000 page faults a step for the embeddings' gradient alone.
    """
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
    if GLIBC:
        GLIBC.mallopt(mmap_threshold, 2**30)
        GLIBC.mallopt(trim_threshold, 2**31 - 1)


def give_back_gaps() -> None:
    """Give the system what lies free between tensors, where the C library is glibc: some 10 ms.

    Before a step that needs more memory than the last ones: what fits no gap comes on top of all of them. And after it:
    what is kept for good from then on would come on top of its gaps.
    """
    if GLIBC:
        GLIBC.malloc_trim(0)


def untouched_zeros(like: Tensor) -> Tensor:
    """Give float32 zeros, of which the system keeps those pages alone that have been written to."""
    pages = mmap(-1, like.numel() * 4, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=torch.float32).view(like.shape)
