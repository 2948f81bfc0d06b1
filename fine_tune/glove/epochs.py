"""A run that is validated after every epoch: its best model is kept, and it ends where there is no progress."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from fine_tune.data.batches import Batch
from fine_tune.data.tokens import Split
from fine_tune.glove.flags import TrainConfig
from fine_tune.glove.validation import Epoch, best_epoch, count_decays, is_over
from fine_tune.hardware import distributed, rank
from fine_tune.model.checkpoint import drop_checkpoints, list_checkpoints, save_checkpoint
from fine_tune.model.classifier import Classifier
from fine_tune.run.session import Session
from fine_tune.scores.predict import predict

logger = logging.getLogger(__name__)

SCALARS = ("Loss/valid", "Acc/valid", "LearningRate/train")
"""What TensorBoard has of each epoch."""


@dataclass
class Epochs:
    """The epochs of a run so far; a session keeps them in its state.

    Attributes:
        cfg: Measure, patience, length.
        per_epoch: Updates an epoch.
        model: What is trained.
        validate: Scores it.
        folder: Where the best is kept.
        done: The epochs that are finished.
    """

    cfg: TrainConfig
    per_epoch: int
    model: Classifier
    validate: Callable[[], Epoch]
    folder: Path
    done: list[Epoch] = field(default_factory=list)

    def __call__(self, step: int, means: dict[str, float]) -> None:
        """Look at a log entry: there is nothing to watch between epochs."""

    def state(self) -> dict[str, Any]:
        """Give what `restore` needs."""
        return {"epochs": [list(epoch) for epoch in self.done]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.done = [Epoch(*values) for values in state["epochs"]]

    def updates(self, session: Session) -> Iterator[Iterator[Batch]]:
        """Give the updates of epoch after epoch, as long as there is progress; validate after each."""
        for number in range(1, len(self.done) + 1):
            self.tell(session, number)  # a resumed session has begun TensorBoard anew
        while len(self.done) < self.cfg.epoch and not is_over(self.done, self.cfg.measure, self.cfg.patience):
            self.begun = time.monotonic()
            yield from session.updates(until=(len(self.done) + 1) * self.per_epoch)
            self.finish(session)
            self.model.train()
        session.end_entry()

    def finish(self, session: Session) -> None:
        """Validate after an epoch; keep the model if it is the best so far."""
        session.check()
        part = session.work.updater.parts[""]
        self.done.append(self.validate()._replace(lr=part.lr))
        number, last = len(self.done), self.done[-1]
        step = number * self.per_epoch
        best = best_epoch(self.done, self.cfg.measure) + 1
        if best == number:
            session.work.updater.catch_up()
            save_checkpoint(self.folder, step, {"model": self.model})
        drop_checkpoints(self.folder, set(list_checkpoints(self.folder)) - {best * self.per_epoch})
        distributed.barrier()
        if not self.cfg.use_transformers_optimizer:
            part.scheduler.step()  # to fall before the next epoch's first update, not after it
        logger.info(
            "epoch %d of %d, %d updates: valid loss %.4f, valid acc %.4f%s, lr %.3g, %.1f minutes",
            number, self.cfg.epoch, self.per_epoch, last.loss, last.accuracy, " (best)" * (best == number), last.lr,
            (time.monotonic() - self.begun) / 60,
        )  # fmt: skip
        self.tell(session, number)

    def tell(self, session: Session, number: int) -> None:
        """Write an epoch to TensorBoard."""
        if rank.is_main():
            for name, value in zip(SCALARS, self.done[number - 1], strict=True):
                session.board.add_scalar(name, value, number)

    def factor(self, _: int) -> float:
        """Give the fraction of the learning rate that is left."""
        cfg = self.cfg
        return cfg.lr_decay_rate ** count_decays(self.done, cfg.measure, cfg.warmup_epoch, cfg.lr_decay_steps)


def validate(model: Classifier, rows: Split, batch_size: int, device: torch.device) -> Epoch:
    """Score a model on rows with gold labels: mean cross-entropy, and the share of right answers."""
    logits, label = predict(model, rows, batch_size, device), torch.from_numpy(rows.label)
    return Epoch(float(F.cross_entropy(logits, label)), float((logits.argmax(-1) == label).float().mean()))
