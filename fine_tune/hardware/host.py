"""What a script settles with its host before anything heavy is imported: variables and streams that it was handed."""

import os
import signal
import sys

SPINS = "1000"
"""Turns of the loop in which a thread of GNU OpenMP waits before it sleeps; by default it may wait for ever.

A spinning thread holds a core that another process needs. What it gains and costs: RESULTS.md, two runs side by side.
"""


def settle() -> None:
    """Make a script independent of its host: of the other runs on it, of a notebook around it, of the locale."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS
    os.environ["MPLBACKEND"] = "agg"  # pictures are files; a notebook exports a backend that may not be installed here
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a character that the terminal lacks ends no run


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def heard(*signals: signal.Signals) -> list[signal.Signals]:
    """Give those of some signals that are not ignored already, as `nohup` has a hang-up ignored."""
    return [which for which in signals if signal.getsignal(which) != signal.SIG_IGN]


EXHAUSTED = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "failed to allocate")
"""What torch, oneDNN and CUDA say, in lower case, when there is no memory left."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on whatever device."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in EXHAUSTED)
