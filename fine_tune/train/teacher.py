"""Fine-tune a classifier on gold labels: the teacher, or a student without a teacher (the baseline).

Source: Devlin et al. 2019, section 4.1; released `run_fine_tune.py`.

1. The model reads a batch.
2. Cross-entropy with the gold labels (squared error for regression).
3. Clip, step, decay the learning rate.

Departures: batches of similar lengths without padding, see `data`.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from fine_tune.batches import Batch
from fine_tune.checkpoint import save_checkpoint
from fine_tune.config import RunConfig
from fine_tune.device import to_device
from fine_tune.distributed import micro_batches
from fine_tune.log import Meter, TrainLog, is_due
from fine_tune.losses import hard_target_loss
from fine_tune.optim import Updater


def fine_tune(
    cfg: RunConfig,
    total_step: int,
    model: nn.Module,
    updater: Updater,
    updates: Iterator[list[Batch]],
    device: torch.device,
    run_dir: Path,
    log: TrainLog,
) -> None:
    """Train `model` for `total_step` updates (steps 1-3 of the module docstring)."""
    model.train()
    meter = Meter()
    for step in range(1, total_step + 1):
        for batch in micro_batches(next(updates), model):
            s = model(**to_device(batch.student, device))
            loss = hard_target_loss(s.logits, to_device(batch.label, device))
            updater.backward(loss * batch.weight)
            meter.add(batch.weight, loss=loss)

        rates = updater.rates()
        updater.step()

        log.advance()
        if is_due(step, cfg.log_step, last=total_step):
            log.scalars(step, meter.mean(step) | rates)
        if is_due(step, cfg.ckpt_step, last=total_step):
            save_checkpoint(run_dir, step, model)
