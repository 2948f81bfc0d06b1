"""Weighted means of scalars, over all processes, that never wait for a GPU."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fine_tune.hardware import distributed


class Meter:
    """Weighted means of scalars between two log entries, summed on their device and read once."""

    def __init__(self) -> None:
        self.total: dict[str, Tensor] = {}
        self.weight: dict[str, float] = {}

    def add(self, weight: float, **values: Tensor) -> None:
        """Add detached scalars, or tables of them; the weights of one update sum to 1. Each name has its own mean."""
        for name, value in values.items():
            value = value.detach() * weight
            self.total[name] = self.total[name].to(value.device) + value if name in self.total else value
            self.weight[name] = self.weight.get(name, 0.0) + weight

    def mean(self, step: int) -> dict[str, float]:
        """Read the means, over all processes, and start anew; entry (i, j) of a table is called `name_i_j`, from 1 on.

        Raises:
            FloatingPointError: A mean is not finite.
        """
        device = next(iter(self.total.values())).device
        weights = torch.tensor([self.weight[name] for name, table in self.total.items() for _ in range(table.numel())])
        flat = torch.cat([table.to(device).flatten() for table in self.total.values()])
        sums, weight = distributed.add_up(torch.stack([flat.double(), weights.to(device).double()])).tolist()
        means = {name: total / whole for name, total, whole in zip(self.names(), sums, weight, strict=True)}
        self.total, self.weight = {}, {}
        if bad := {name: value for name, value in means.items() if not math.isfinite(value)}:
            raise FloatingPointError(f"not finite by step {step}: {bad}; lower the learning rate or the loss weights")
        return means

    def count(self, **values: Tensor) -> None:
        """Add detached scalars that belong to a whole update."""
        self.add(1.0, **values)

    def state(self) -> dict[str, Any]:
        """Give the sums so far."""
        return {"total": {name: total.cpu() for name, total in self.total.items()}, "weight": self.weight}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from sums."""
        self.total, weight = state["total"], state["weight"]
        # Older states have one weight, that of the updates.
        self.weight = weight if isinstance(weight, dict) else dict.fromkeys(self.total, weight)

    def names(self) -> Iterator[str]:
        """Name every scalar, in order."""
        for name, table in self.total.items():
            for place in itertools.product(*(range(1, size + 1) for size in table.shape)):
                yield "_".join([name, *map(str, place)])
