"""Which of torchrun's processes this one is, read from its environment; without torchrun it is the only one."""

import os


def world_size() -> int:
    """Count the processes of this run."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Number of this process on its machine: its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0
