"""Fine-tune a classifier on gold labels: the teacher, or a student without a teacher (the baseline).

Source: Devlin et al. 2019, section 4.1; released `run_fine_tune.py`.

1. The model reads a batch.
2. Cross-entropy with the gold labels (squared error for regression).
3. Clip, step, decay the learning rate.

Departures: batches of similar lengths without padding, see `data`.
"""

from torch import nn

from fine_tune.losses import hard_target_loss
from fine_tune.run.session import Session


def fine_tune(session: Session, model: nn.Module) -> None:
    """Train `model` (steps 1-3 of the module docstring)."""
    model.train()
    for update in session.updates():
        for batch in update:
            s = model(**batch.student)
            loss = hard_target_loss(s.logits, batch.label)
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss)
        session.step()
