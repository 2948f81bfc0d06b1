"""Which of torchrun's processes this one is, read from its environment; without torchrun it is the only one."""

import os

LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that count only together: a scheduler or a container may have left one of them."""


def number(name: str, alone: int) -> int:
    """Read a number of torchrun's; `alone` without torchrun."""
    launched = all(os.environ.get(each) for each in LAUNCHER)
    numbers = [os.environ.get(each, "") for each in ("RANK", "WORLD_SIZE", name)]
    return int(numbers[-1]) if launched and all(map(str.isdecimal, numbers)) else alone


def world_size() -> int:
    """Count the processes of this run."""
    return number("WORLD_SIZE", 1)


def rank() -> int:
    """Number of this process, from 0."""
    return number("RANK", 0)


def local_rank() -> int:
    """Number of this process on its machine: its GPU."""
    return number("LOCAL_RANK", 0)


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0
