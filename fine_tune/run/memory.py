"""How much memory a run will take, said before it takes it.

What is there when it is asked (libraries, weights, teacher) is measured; what comes is estimated: gradients and moments
of everything that is trained, and what the largest micro-batch of the run leaves for its backward pass. That is counted
per token and layer, in units of the width D and the feed-forward width F: `STORED` numbers for a layer that is trained,
`PASSING` for the one that is being computed. Compared with the truth in doc/reliability.md.
"""

import resource
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import PrecisionConfig, SpeedConfig
from fine_tune.model.classifier import Classifier
from fine_tune.model.part import TrainedPart
from fine_tune.model.placement import LONG
from fine_tune.model.projection import without_projection

STORED, PASSING = (11, 3), (8, 4)
"""Of D and F, as measured: states, query, key, value, context, sums, norms; the feed-forward before and after GELU."""
OTHER = 5
"""Per token, of the outputs of all linear maps of a part that is no classifier: kept for the backward pass."""
LESS = "--accum_step 2 or --gradient_checkpointing takes about half of it for the same updates; or lower --batch_size"
"""What a user can do about it."""
MOMENTS = 12
"""Bytes per trained number: its gradient and AdamW's two moments."""


def needed(parts: Iterable[TrainedPart], teacher: Classifier | None, tokens: NDArray[np.int64], flags: Flags) -> int:
    """Estimate the bytes that a run will take beyond what it has when its models are in place.

    Args:
        parts: What is trained.
        teacher: The teacher, if it is run.
        tokens: Of every micro-batch of an epoch, padding included.
        flags: The run's: whether layers are recomputed, whether products are in half precision.
    """
    most, mean, speed = int(tokens.max()), float(tokens.mean()), flags[SpeedConfig]
    size = 4 if flags[PrecisionConfig].precision == "fp32" else 2
    total = 0.0
    for part in parts:
        total += MOMENTS * sum(weights.numel() for weights in part.parameters() if weights.requires_grad)
        model = without_projection(part)
        if isinstance(model, Classifier):
            width, inner, layers = model.width, model.inner, model.num_layers
            stored = STORED[0] * width + STORED[1] * inner
            kept = 0.0 if speed.gradient_checkpointing else layers * min(most, LONG * mean)
            passing = PASSING[0] * width + PASSING[1] * inner
            total += size * (kept * stored + most * passing) + 4 * layers * most * width
        else:
            total += 4 * most * OTHER * sum(weights.shape[0] for weights in part.parameters() if weights.ndim == 2)
    if teacher:
        width, inner = teacher.width, teacher.inner
        total += 4 * most * (teacher.num_layers * width + PASSING[0] * width + PASSING[1] * inner)
    return round(total)


def taken(device: torch.device) -> int:
    """Bytes that this process holds on a device; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return pages(1)


def free(device: torch.device) -> int | None:
    """Bytes that this process may still take on a device, as far as the system tells: memory, control group, ulimit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = []
    for line in lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    limit, used = lines("/sys/fs/cgroup/memory.max"), lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdecimal():
        found.append(int(limit[0]) - int(used[0]))
    if (ulimit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        found.append(ulimit - pages(0))
    return min(found, default=None)


def pages(column: int) -> int:
    """Bytes of this process by a column of Linux's `statm`: 0 its address space, 1 what is in memory."""
    return sum(int(line.split()[column]) for line in lines("/proc/self/statm")) * resource.getpagesize()


def lines(file: str) -> list[str]:
    """Read the lines of a file of the system's; none where it has no such file."""
    try:
        return Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
