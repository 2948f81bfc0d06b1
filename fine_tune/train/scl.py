"""SCL: a student goes on with the supervised contrast alone, the second of three steps: hidden states, contrast, KD.

Source: Khosla et al. 2020; for text Gunel et al. 2021; released `train_scl_from_ckpt.py`.

1. The student reads sentences, as many of each class.
2. Last [CLS] states of one label attract each other within a micro-batch, those of others part. No teacher.
3. Clip, step, decay. Pooler and classifier learn nothing and stay as they are.

Departures from the released code: `--dropout` has an effect; the source's folder cannot be written to; rows without
another of their label in their micro-batch are left out of the mean, where the released code ends the run.
"""

from torch import nn

from fine_tune.losses import supervised_contrast_loss
from fine_tune.run.session import Session
from fine_tune.train.methods import SclConfig


def train_scl(session: Session, student: nn.Module, weights: SclConfig) -> None:
    """Contrast labels (steps 1-3 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        student: The student.
        weights: Temperature.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. The student reads sentences.
            s = student(**batch.student)

            # 2. [CLS] states of one label attract each other.
            loss = supervised_contrast_loss(s.first, batch.label, weights.scl_temp)
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, scl_loss=loss)

        # 3. Clip, step, decay.
        session.step()
