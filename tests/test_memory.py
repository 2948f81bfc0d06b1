"""Pages are taken when written to, and given back from between tensors."""

from pathlib import Path

import pytest
import torch

from fine_tune.hardware.cpu.memory import GLIBC, give_back_gaps, keep_freed_memory, untouched_zeros

pytestmark = pytest.mark.skipif(GLIBC is None, reason="of glibc alone")


def resident_mb():
    """Memory of this process that is there, in MB."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1000


def test_gaps_between_tensors_are_given_back():
    keep_freed_memory()
    tensors = [torch.ones(25_000) for _ in range(2000)]  # 0.1 MB each
    kept = tensors[::2]
    full = resident_mb()
    del tensors
    assert resident_mb() > full - 20  # nothing goes by itself
    give_back_gaps()
    assert resident_mb() < full - 70
    assert all(bool((tensor == 1).all()) for tensor in kept)


def test_zeros_take_memory_where_they_are_written_to():
    before = resident_mb()
    zeros = untouched_zeros(torch.empty(100_000, 250))  # 100 MB
    assert resident_mb() < before + 20
    zeros[:50_000] = 1
    assert before + 30 < resident_mb() < before + 80
    assert zeros.sum() == 50_000 * 250
