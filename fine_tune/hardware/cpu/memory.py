"""Memory of a process on a CPU: what the C library keeps between steps, and what it returns to the system."""

import ctypes
import platform
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import torch
from torch import Tensor

GLIBC = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def keep_freed_memory() -> None:
    """Have glibc keep the memory of large tensors for the next step.

    By default it returns that memory and asks for it again, at a cost of some 10,000 page faults a step.
    """
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
    if GLIBC:
        GLIBC.mallopt(mmap_threshold, 2**30)
        GLIBC.mallopt(trim_threshold, 2**31 - 1)


def give_back_gaps() -> None:
    """Have glibc return free heap memory to the system; takes some 10 ms.

    Call it before a step that needs more memory than the last ones, since its tensors fit none of the free gaps, and
    after it, since later allocations that stay would not fill the gaps it leaves.
    """
    if GLIBC:
        GLIBC.malloc_trim(0)


def untouched_zeros(like: Tensor) -> Tensor:
    """Give float32 zeros that take memory only where they have been written to."""
    pages = mmap(-1, like.numel() * 4, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=torch.float32).view(like.shape)
