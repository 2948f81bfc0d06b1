"""One seed for everything random in a run. The order of the data has its own, pure function: `batches.batch_rows`."""

import random

import numpy
import torch

from fine_tune.hardware import rank as process


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def own_dropout(seed: int) -> None:
    """Start dropout anew once the models are built: every process draws its own, whatever the method built besides."""
    torch.manual_seed((seed + process.rank()) % 2**63)
