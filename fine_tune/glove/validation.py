"""Training with a validation after every epoch: what the measure so far decides.

Source: the GloVe document's code. Departures: a tie does not put early stopping off; once the learning rate has fallen,
worse epochs are counted anew. All is worked out from the measures of the epochs, so nothing else has to be resumed.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Epoch(NamedTuple):
    """A finished epoch: mean loss of validation, with gold labels; share of right answers; learning rate at its end."""

    loss: float
    accuracy: float
    lr: float = 0.0


def better(value: float, other: float, measure: str) -> bool:
    """Whether `value` is strictly better; a loss is better where it is smaller."""
    return value < other if measure == "loss" else value > other


def best_epoch(epochs: Sequence[Epoch], measure: str) -> int:
    """Find the first of the best epochs, 0-based."""
    values = [getattr(epoch, measure) for epoch in epochs]
    return values.index(min(values) if measure == "loss" else max(values))


def is_over(epochs: Sequence[Epoch], measure: str, patience: int) -> bool:
    """Whether more than `patience` epochs have passed since the best one."""
    return bool(epochs) and len(epochs) - 1 - best_epoch(epochs, measure) > patience


def count_decays(epochs: Sequence[Epoch], measure: str, warmup_epoch: int, lr_decay_steps: float) -> int:
    """Count how often the learning rate has fallen: at most once per epoch, and not in the first ones.

    It falls once `lr_decay_steps` epochs in a row were no better than the one before them, or more than that many have
    passed since the best one.

    Args:
        epochs: So far.
        measure: `loss` or `accuracy`.
        warmup_epoch: Number (0-based) of the last epoch after which it cannot fall.
        lr_decay_steps: See above.
    """
    values = [getattr(epoch, measure) for epoch in epochs]
    decays = in_a_row = 0
    since_best = 0
    for number in range(1, len(values)):
        in_a_row = 0 if better(values[number], values[number - 1], measure) else in_a_row + 1
        since_best = 0 if best_epoch(epochs[: number + 1], measure) == number else since_best + 1
        if number > warmup_epoch and (in_a_row >= lr_decay_steps or since_best > lr_decay_steps):
            decays += 1
            in_a_row = since_best = 0
    return decays
