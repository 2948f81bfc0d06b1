"""Layer-wise contrast: [CLS] of every student layer has to find its teacher layer's among those of other rows; and KD.

Everything of the teacher comes from banks on disk; it is not in memory.

Source: released `run_layerwise_contrast_distill.py`; else as `train.contrast`.

1. The student reads sentences; the teacher's logits and vectors are looked up.
2. Contrast of each student layer: its [CLS] state among the bank's vectors of the same row and of K others, the same
   rows for all layers; the sum over layers.
3. Logits: (1 - soft_label_weight) gold labels + soft_label_weight soft targets; beside them `contrast_weight` times the
   contrast.
4. Clip, step, decay: one schedule. With `contrast_steps`, step 2 alone until then, then both.

Departures from the released code: banks of another checkpoint or split are refused; `--layer_map` can be given;
negatives: see `data.contrast`; one backward pass over the sum of all terms.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fine_tune.data.batches import Batch
from fine_tune.losses import contrast_loss, hard_target_loss, soft_target_loss
from fine_tune.model.classifier import Output
from fine_tune.run.session import Session
from fine_tune.teacher.banked import MemoryBank
from fine_tune.teacher.protocol import Teacher
from fine_tune.train.methods import LayerContrastConfig

Banks = Mapping[int, MemoryBank]
"""By 0-based student layer, the bank of the teacher layer that it follows."""


def train_layerwise_contrast(
    session: Session, teacher: Teacher, student: nn.Module, banks: Banks, weights: LayerContrastConfig
) -> None:
    """Contrast layers and learn logits, in the updates that are left (steps 1-4 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        teacher: Gives logits of a batch.
        student: The student.
        banks: The teacher's vectors of every row.
        weights: Weights, temperatures, stages.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. The student reads sentences; the teacher is looked up.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Which of 1 + K vectors of the teacher layer is this row's?
            contrast = layers_contrast(s, banks, batch, weights.contrast_temp)

            # 3. Logits and labels; all weights stand on two lines.
            soft = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            logit = weights.soft_label_weight * soft + (1 - weights.soft_label_weight) * hard
            loss = logit + weights.contrast_weight * contrast
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, contrast_loss=contrast, soft_loss=soft, hard_loss=hard)

        # 4. Clip, step, decay.
        session.step()


def train_layerwise_contrast_alone(
    session: Session, student: nn.Module, banks: Banks, weights: LayerContrastConfig
) -> None:
    """Contrast layers alone, for `contrast_steps` updates; arguments as of `train_layerwise_contrast`."""
    student.train()
    for update in session.updates(weights.contrast_steps):
        for batch in update:
            # 1. The student reads sentences.
            s = student(**batch.student)

            # 2. Which of 1 + K vectors of the teacher layer is this row's?
            loss = layers_contrast(s, banks, batch, weights.contrast_temp)
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, contrast_loss=loss)

        # 4. Clip, step, decay.
        session.step()


def layers_contrast(s: Output, banks: Banks, batch: Batch, temperature: float) -> Tensor:
    """Sum the contrast of the student's layers that have a bank (step 2)."""
    return torch.stack([
        contrast_loss(s.hidden_states[layer][:, 0], bank(batch.rows), bank(batch.negatives), temperature)
        for layer, bank in banks.items()
    ]).sum()  # fmt: skip
