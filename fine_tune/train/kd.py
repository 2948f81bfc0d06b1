"""KD: knowledge distillation of the logits alone, the baseline for every method that matches hidden states.

Source: Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015.

1. Teacher and student read the same sentences; only the student learns.
2. Loss: soft targets and gold labels.
3. Clip, step, decay the learning rate.

Departures: none from the paper; the released LAD code has no such script.
"""

from torch import nn

from fine_tune.losses import hard_target_loss, soft_target_loss
from fine_tune.run.session import Session
from fine_tune.teacher.protocol import Teacher
from fine_tune.train.methods import LogitConfig


def train_kd(session: Session, teacher: Teacher, student: nn.Module, weights: LogitConfig) -> None:
    """Distil a teacher's logits into a student (steps 1-3 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        teacher: Gives outputs of a batch.
        student: The student.
        weights: Temperature, and the weights of the losses.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Two unweighted losses; both weights stand on one line.
            soft = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            loss = weights.soft_weight * soft + weights.hard_weight * hard
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard)

        # 3. Clip, step, decay.
        session.step()
