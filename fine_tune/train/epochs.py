"""Train epoch by epoch with a validation after each, on gold labels or on a teacher's logits, whichever the rows have.

Source: Tang et al. 2019, arXiv 1903.12136, section 3: a student learns logits; the GloVe document.

1. The model reads a batch.
2. Gold labels: cross-entropy. A teacher's logits: squared error between logits.
3. Clip, step, decay the learning rate.
4. After an epoch: validate with gold labels, keep the best model, stop where there is no progress.

Departures from the document's code: cross-entropy of logits, not of probabilities; the squared error is a mean over
rows and classes, not their sum, so clipping is not always active; batches of similar lengths without padding.
"""

from collections.abc import Callable

from torch import Tensor, nn

from fine_tune.glove.epochs import Epochs
from fine_tune.run.session import Session


def train_epochs(
    session: Session, model: nn.Module, epochs: Epochs, target_loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Train `model` (steps 1-4 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        model: The model.
        epochs: The run's epochs; each ends with step 4.
        target_loss: Compares logits (B, C) with the rows' labels: `hard_target_loss` or `logit_mse_loss`.
    """
    model.train()
    for update in epochs.updates(session):
        for batch in update:
            s = model(**batch.student)
            loss = target_loss(s.logits, batch.label)
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss)
        session.step()
