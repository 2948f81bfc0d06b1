"""Contrast: the student's pooled output has to find its teacher's among those of other rows; and KD beside or after it.

Source: Tian et al. 2020 (CRD); bank: Wu et al. 2018; loss: van den Oord et al. 2018; released
`run_fine_tune_contrast_distill.py`.

1. The student reads sentences; the teacher's logits are asked for where they are learned.
2. Contrast: the student's pooled output, with dropout, among the bank's vectors of the same row and of K others.
3. Logits: (1 - logit_loss_weight) gold labels + logit_loss_weight soft targets at temperature 1. Both count alike.
4. Clip, step, decay: one schedule. With `--two_stage`, step 2 alone for `contrast_steps` updates, then both.

Departures from the released code:
1. The vector of the same row comes from the bank, too, where it is the one that the teacher would give.
2. `--membank_device` has an effect; the bank may stay on disk. 3. Negatives: see `data.contrast`.
4. Steps and stages are counted alike: the first stage has exactly `contrast_steps` updates.
"""

from torch import nn

from fine_tune.losses import contrast_loss, hard_target_loss, soft_target_loss
from fine_tune.run.session import Session
from fine_tune.teacher.banked import MemoryBank
from fine_tune.teacher.protocol import Teacher
from fine_tune.train.methods import ContrastConfig


def train_contrast(
    session: Session, teacher: Teacher, student: nn.Module, bank: MemoryBank, weights: ContrastConfig
) -> None:
    """Contrast pooled outputs and learn logits, in the updates that are left (steps 1-4 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        teacher: Gives logits of a batch.
        student: The student.
        bank: The teacher's normalised pooled output of every row.
        weights: Weights, temperature, stages.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Which of 1 + K vectors of the teacher is this row's?
            contrast = contrast_loss(s.pooled, bank(batch.rows), bank(batch.negatives), weights.softmax_temp)

            # 3. Logits and labels; all weights stand on one line.
            soft = soft_target_loss(s.logits, t.logits, 1.0, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            loss = contrast + weights.logit_loss_weight * soft + (1 - weights.logit_loss_weight) * hard
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, contrast_loss=contrast, soft_loss=soft, hard_loss=hard)

        # 4. Clip, step, decay.
        session.step()


def train_contrast_alone(session: Session, student: nn.Module, bank: MemoryBank, weights: ContrastConfig) -> None:
    """Contrast pooled outputs alone, for `contrast_steps` updates; arguments as of `train_contrast`."""
    student.train()
    for update in session.updates(weights.contrast_steps):
        for batch in update:
            # 1. The student reads sentences.
            s = student(**batch.student)

            # 2. Which of 1 + K vectors of the teacher is this row's?
            loss = contrast_loss(s.pooled, bank(batch.rows), bank(batch.negatives), weights.softmax_temp)
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, contrast_loss=loss)

        # 4. Clip, step, decay.
        session.step()
