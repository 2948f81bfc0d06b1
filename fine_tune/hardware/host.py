"""How threads wait for each other, decided before torch is imported."""

import os

SPINS = "1000"
"""Turns of the loop in which a thread of GNU OpenMP waits before it sleeps; by default it may wait for ever.

A spinning thread holds a core that another process needs. What it gains and costs: RESULTS.md, two runs side by side.
"""


def share_cores() -> None:
    """Let waiting threads go to sleep soon, so that runs side by side share the cores; settings of the user's stay."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS
