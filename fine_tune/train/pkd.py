"""PKD: student layers learn teacher layers directly, on all tokens or, as published, on normalised [CLS] vectors.

Source: Sun, Cheng, Gan, Liu: Patient Knowledge Distillation for BERT Model Compression, EMNLP 2019 (`pkd-skip`,
`pkd-last`); the LAD authors' own version, released `run_pkd_distill.py` (`pkd-hidden`).

1. Teacher and student read the same sentences; only the student learns.
2. The target of student layer l is the teacher layer that it follows, as it is.
3. Loss: soft targets, gold labels, and the squared distance of student layers to their targets: of all tokens
   (`train_pkd`), or of the [CLS] vectors, each divided by its 2-norm (`train_pkd_cls`).
4. Clip, step, decay the learning rate.

Departures:
1. `pkd-hidden`, from the paper: all tokens, not normalised, all student layers; so it was released by LAD's authors.
2. `pkd-skip`, `pkd-last`, from the paper: the squared distance is a mean over the D entries (as in the code that came
   with the paper) and divided by L_s; the paper writes a sum over entries and layers. Their weight differs by D L_s.
3. Of all, from the code released with LAD: padding is masked, one backward pass, see `train.lad`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fine_tune.layer_map import LayerMap, layer_map, written
from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss
from fine_tune.run.session import Session
from fine_tune.teacher.protocol import Teacher
from fine_tune.train.methods import HiddenConfig


def cls_map(pkd_exp: str, words: str | None, teacher_layers: int, student_layers: int) -> LayerMap:
    """Map all student layers but the last, which is left to the logits, as published: `pkd-skip` or `pkd-last`.

    `pkd-skip` takes every k-th teacher layer, `pkd-last` the teacher's last ones below the top: for 12 -> 6 the user's
    2, 4, .., 10 and 7, .., 11.

    Raises:
        ValueError: The student has one layer, or more than the teacher; or `--layer_map` (`words`) says otherwise.
    """
    if student_layers < 2:
        raise ValueError(f"--pkd_exp {pkd_exp} leaves the last student layer to the logits: it needs 2 layers or more")
    whole = layer_map("even" if pkd_exp == "pkd-skip" else "last", teacher_layers, student_layers)
    whole.pop(student_layers - 1)
    if words is not None and layer_map(words, teacher_layers, student_layers) != whole:
        raise ValueError(f"--layer_map {words}: {pkd_exp} is {written(whole)}; run_probing.py takes a map of yours")
    return whole


def train_pkd(
    session: Session, teacher: Teacher, student: nn.Module, layer_map: LayerMap, weights: HiddenConfig
) -> None:
    """Distil a teacher into a student, all tokens (steps 1-4 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        teacher: Gives outputs of a batch.
        student: The student.
        layer_map: The teacher layer that each student layer follows.
        weights: Temperature, and the weights of the losses.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Student layers learn teacher layers as they are.
            targets = {layer: t.states[followed].float() for layer, followed in layer_map.items()}  # (B, S, D)

            # 3. Three unweighted losses; all weights stand on one line.
            soft = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            hidden = hidden_mse_loss(s.hidden_states, targets, batch.mask)
            loss = weights.soft_weight * soft + weights.hard_weight * hard + weights.hidden_mse_weight * hidden
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard, hidden_loss=hidden)

        # 4. Clip, step, decay.
        session.step()


def train_pkd_cls(
    session: Session, teacher: Teacher, student: nn.Module, layer_map: LayerMap, weights: HiddenConfig
) -> None:
    """Distil a teacher into a student, normalised [CLS] vectors; arguments as of `train_pkd`."""
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Student layers learn the direction of the teacher's [CLS] vectors.
            targets = {layer: unit(t.states[followed][:, 0]) for layer, followed in layer_map.items()}  # (B, D)

            # 3. Three unweighted losses; all weights stand on one line.
            soft = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            hidden = hidden_mse_loss([unit(state[:, 0]) for state in s.hidden_states], targets, None)
            loss = weights.soft_weight * soft + weights.hard_weight * hard + weights.hidden_mse_weight * hidden
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard, hidden_loss=hidden)

        # 4. Clip, step, decay.
        session.step()


def unit(vectors: Tensor) -> Tensor:
    """Divide vectors (B, D) by their 2-norms."""
    return F.normalize(vectors.float(), dim=-1)
