"""One seed for everything random in a run. The order of the data has its own, pure function: `data.batch_rows`."""

import random

import numpy
import torch


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
