"""Fine-tune a classifier on gold labels: the teacher, or a student without a teacher (the baseline).

Source: Devlin et al. 2019, section 4.1; released `run_fine_tune.py`.

1. The model reads a batch.
2. Cross-entropy with the gold labels (squared error for regression).
3. Clip, step, decay the learning rate.

Departures: batches of similar lengths without padding, see `data`.
"""

from collections.abc import Iterator

import torch
from torch import nn

from fine_tune.data.batches import Batch
from fine_tune.hardware.device import to_device
from fine_tune.hardware.distributed import micro_batches
from fine_tune.losses import hard_target_loss
from fine_tune.run.optim import Updater
from fine_tune.run.session import TrainLog


def fine_tune(
    model: nn.Module, updater: Updater, updates: Iterator[list[Batch]], device: torch.device, log: TrainLog
) -> None:
    """Train `model` (steps 1-3 of the module docstring)."""
    model.train()
    for step in log.steps():
        for batch in micro_batches(next(updates), model):
            s = model(**to_device(batch.student, device))
            loss = hard_target_loss(s.logits, to_device(batch.label, device))
            updater.backward(loss * batch.weight)
            log.add(batch.weight, loss=loss)
        log.update(step, updater.step())
        log.save(step, model)
