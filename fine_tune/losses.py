"""The losses of distillation and of contrast: pure and unweighted; every weight stands in the method's loop.

Where several labels may hold for a row, each is a question of its own, answered by the sigmoid of its logit: the hard
loss is binary cross-entropy, the soft loss T^2 times the KL divergence of two Bernoulli distributions, both means over
labels and rows.

Shapes: B batch, S tokens, D width, C classes (1 for regression), L_s student layers, K negatives.
Source: Lin et al. 2023; released code; of contrast see there.

Departures (all from the released code):
1. With a mask, the hidden state loss averages over the real tokens of each sentence, then over sentences. The released
   code averages over padding too. A mean per sentence does not depend on which sentences share a batch, so any split
   of a batch into micro-batches, or over processes, gives the same gradient.
2. All hidden terms are one sum, for one backward pass; the released code runs a backward pass per layer.
3. In the supervised contrast, a row with no other of its label has no loss; the released code ends the run.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def hard_target_loss(student_logits: Tensor, label: Tensor | None) -> Tensor:
    """Cross-entropy with the gold label, or with each of several, or the squared error of a score; mean over the batch.

    Args:
        student_logits: (B, C).
        label: (B,), integer classes, or floating-point scores for regression; (B, C) of 1 and 0 where several may hold;
            None, rows without gold labels, give 0.
    """
    if label is None:
        return student_logits.new_zeros(())
    if label.ndim == 2:
        return F.binary_cross_entropy_with_logits(student_logits, label)
    if label.is_floating_point():
        return F.mse_loss(student_logits.squeeze(-1), label)
    return F.cross_entropy(student_logits, label)


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float, multi: bool = False) -> Tensor:
    """T^2 * KL(teacher || student) of the softened class distributions, mean over the batch; squared error if C = 1.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C); no gradient flows into it.
        temperature: T.
        multi: Several labels may hold: C distributions of two outcomes each, and a mean over them, too.
    """
    teacher_logits = teacher_logits.detach()
    if multi:
        yes_no = [torch.stack([logits, -logits]) / temperature for logits in (student_logits, teacher_logits)]
        student, teacher = (F.logsigmoid(each) for each in yes_no)  # (2, B, C)
        return temperature**2 * F.kl_div(student, teacher, reduction="sum", log_target=True) / student_logits.numel()
    if student_logits.shape[-1] == 1:
        return F.mse_loss(student_logits, teacher_logits)
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def logit_mse_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared error between logits, over the batch and the classes.

    Source: Ba and Caruana 2014, equation 1; Tang et al. 2019, arXiv 1903.12136, section 3.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C); no gradient flows into it.
    """
    return F.mse_loss(student_logits, teacher_logits.detach())


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


def contrast_loss(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE: cross-entropy of finding a vector's positive among its negatives by their cosines; mean over the batch.

    Source: van den Oord et al. 2018, equation 4; with a bank of negatives, Wu et al. 2018 and Tian et al. 2020 (CRD).

    Args:
        query: (B, D), of any length.
        positive: (B, D) of length 1; no gradient flows into it.
        negatives: (B, K, D) of length 1; no gradient flows into them.
        temperature: What the cosines are divided by.
    """
    query = F.normalize(query.float(), dim=-1)
    others = torch.cat([positive.detach()[:, None], negatives.detach()], 1).float()  # (B, 1 + K, D)
    cosines = torch.einsum("bd,bkd->bk", query, others)
    return F.cross_entropy(cosines / temperature, cosines.new_zeros(len(query), dtype=torch.long))


def supervised_contrast_loss(vectors: Tensor, label: Tensor, temperature: float) -> Tensor:
    """SupCon: every row is drawn to the other rows of its label and away from all; mean over the rows that have such.

    Source: Khosla et al. 2020, equation 2, one view of each row; for text Gunel et al. 2021.

    Args:
        vectors: (B, D), of any length.
        label: (B,), integer classes.
        temperature: What the cosines are divided by.

    Returns:
        0 if no label occurs twice.
    """
    unit = F.normalize(vectors.float(), dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    scores = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    log_share = scores - scores.logsumexp(1, keepdim=True)  # (B, B), of each other row among all others
    alike = (label[:, None] == label) & ~itself
    count = alike.sum(1)
    loss = -log_share.masked_fill(~alike, 0.0).sum(1) / count.clamp(min=1)  # 0 for rows without a positive
    return loss.sum() / (count > 0).sum().clamp(min=1)
