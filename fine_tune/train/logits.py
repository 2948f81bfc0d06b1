"""Logits learned by their squared error: the way from a transformer to a network on word vectors.

Source: Tang et al. 2019, arXiv 1903.12136, section 3 (its equation adds both losses; like its experiments, the defaults
learn logits alone).

1. Teacher and student read the same sentences, each in its own tokens; only the student learns.
2. Loss: squared error between logits, and gold labels if wanted.
3. Clip, step, decay the learning rate.

Departures: AdamW with a linear schedule, not Adadelta. With a validation after every epoch: `epochs`.
"""

from torch import nn

from fine_tune.losses import hard_target_loss, logit_mse_loss
from fine_tune.run.session import Session
from fine_tune.teacher.protocol import Teacher
from fine_tune.train.methods import LogitMseConfig


def train_logits(session: Session, teacher: Teacher, student: nn.Module, weights: LogitMseConfig) -> None:
    """Distil a teacher's logits into a student (steps 1-3 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        teacher: Gives outputs of a batch.
        student: The student.
        weights: Weights of the losses.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Two unweighted losses; both weights stand on one line.
            mse = logit_mse_loss(s.logits, t.logits)
            hard = hard_target_loss(s.logits, batch.label)
            loss = weights.mse_weight * mse + weights.hard_weight * hard
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, mse_loss=mse, hard_loss=hard)

        # 3. Clip, step, decay.
        session.step()
