"""The three losses of distillation: pure and unweighted; every weight stands in the method's loop.

Shapes: B batch, S tokens, D width, C classes (1 for regression), L_s student layers.
Source: Lin et al. 2023; released code.

Departures (both from the released code):
1. With a mask, the hidden state loss averages over the real tokens of each sentence, then over sentences. The released
   code averages over padding too. A mean per sentence does not depend on which sentences share a batch, so any split
   of a batch into micro-batches, or over processes, gives the same gradient.
2. All hidden terms are one sum, for one backward pass; the released code runs a backward pass per layer.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def hard_target_loss(student_logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy with the gold label, or the squared error of a score; mean over the batch.

    Args:
        student_logits: (B, C).
        label: (B,), integer classes, or floating-point scores for regression.
    """
    if label.is_floating_point():
        return F.mse_loss(student_logits.squeeze(-1), label)
    return F.cross_entropy(student_logits, label)


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of the softened class distributions, mean over the batch; squared error if C = 1.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C); no gradient flows into it.
        temperature: T.
    """
    teacher_logits = teacher_logits.detach()
    if student_logits.shape[-1] == 1:
        return F.mse_loss(student_logits, teacher_logits)
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def hidden_mse_loss(student_states: Sequence[Tensor], targets: Mapping[int, Tensor], mask: Tensor | None) -> Tensor:
    """Mean squared error between student layers and their targets; sum over the targets divided by L_s.

    Args:
        student_states: L_s tensors (B, S, D), or (B, D) without a mask.
        targets: By 0-based student layer, tensors like the student's; a layer without a target has no loss.
        mask: (B, S), 1 for real tokens and 0 for padding; None lets padding count, as the released code does.
    """
    pairs = [(student_states[layer].float(), target.float()) for layer, target in targets.items()]
    if mask is None:
        return torch.stack([F.mse_loss(s, t) for s, t in pairs]).sum() / len(student_states)
    batch, _, width = pairs[0][0].shape
    weight = (mask / (mask.sum(1, keepdim=True) * (batch * width * len(student_states)))).unsqueeze(-1)  # (B, S, 1)
    return torch.stack([((s - t).square() * weight).sum() for s, t in pairs]).sum()
