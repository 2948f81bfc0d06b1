"""ALP-KD: the target of a student layer is what its own attention over the teacher's layers picks.

Source: Passban, Wu, Rezagholizadeh, Liu: ALP-KD: Attention-Based Layer Projection for Knowledge Distillation, AAAI
2021; variants of the LAD authors, released `run_alp_distil.py`. i numbers the teacher layers that layer l may look at:

    weight_i = softmax_i( <t_i, s_l> / sqrt(D) )        target_l = sum_i weight_i t_i

1. Teacher and student read the same sentences; only the student learns.
2. Targets by attention: of [CLS] vectors (`alp-kd`), or of every token by itself (`alp-kd-hidden`; `alp-kd-hidden-v2`
   lets student layer l look at the teacher layer that it is mapped to and at those below alone).
3. Loss: soft targets, gold labels, and the squared distance of student layers to their targets.
4. Clip, step, decay the learning rate.

Departures:
1. An addition: `--detach_target` keeps the student's gradient out of the weights; as released, they have it.
2. The released code saves the last batch's scores as `attn-LAYER-STEP.pt`; here the mean weights over the updates since
   the last entry stand in the log, `attn_L_I` for student layer L and teacher layer I.
3. From the code released with LAD: padding is masked, one backward pass, see `train.lad`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fine_tune.layer_map import LayerMap
from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss
from fine_tune.run.session import Session
from fine_tune.teacher.protocol import Teacher
from fine_tune.train.methods import HiddenConfig

Reach = dict[int, list[int]]
"""For every student layer the teacher layers that it may look at, 0-based."""


def full_reach(teacher_layers: int, student_layers: int) -> Reach:
    """Let every student layer look at all teacher layers."""
    return {layer: list(range(teacher_layers)) for layer in range(student_layers)}


def lower_reach(layer_map: LayerMap) -> Reach:
    """Let every student layer look at the teacher layer that it is mapped to and at those below (v2)."""
    return {layer: list(range(followed + 1)) for layer, followed in layer_map.items()}


def attention_targets(
    student_states: Sequence[Tensor],
    teacher_states: Mapping[int, Tensor],
    reach: Reach,
    mask: Tensor | None = None,
    detach: bool = False,
) -> tuple[dict[int, Tensor], Tensor]:
    """Mix teacher layers by the student's attention, position by position.

    Args:
        student_states: L_s tensors (B, S, D).
        teacher_states: Teacher layers (B, S, D) by their 0-based number.
        reach: The layers that are mixed for each student layer.
        mask: (B, S), 1 for real tokens, for the mean weights; None if all are.
        detach: Keep the student's gradient out of the weights.

    Returns:
        Targets (B, S, D) by student layer, and the mean weights (L_s, highest layer read), 0 out of reach.
    """
    layers = sorted(teacher_states)
    stacked = torch.stack([teacher_states[layer].float() for layer in layers], 2)  # (B, S, L, D)
    targets, attention = {}, stacked.new_zeros(len(student_states), layers[-1] + 1)
    for number, within in reach.items():
        seen = stacked if within == layers else stacked[:, :, [layers.index(layer) for layer in within]]
        query = student_states[number].float()
        query = query.detach() if detach else query
        scores = (seen @ query.unsqueeze(-1)).squeeze(-1) / query.shape[-1] ** 0.5  # (B, S, L)
        weights = scores.softmax(-1)
        targets[number] = (weights.unsqueeze(-2) @ seen).squeeze(-2)
        shown = weights.detach()
        mean = shown.mean((0, 1)) if mask is None else (shown * mask.unsqueeze(-1)).sum((0, 1)) / mask.sum()
        attention[number, within] = mean
    return targets, attention


class Attention(NamedTuple):
    """How student layers attend to the teacher's.

    Attributes:
        reach: The teacher layers that each student layer may look at.
        detach: Keep the student's gradient out of the attention weights.
    """

    reach: Reach
    detach: bool

    @property
    def reads(self) -> tuple[int, ...]:
        """0-based teacher layers that are within reach of some student layer."""
        return tuple(sorted({layer for layers in self.reach.values() for layer in layers}))

    def __call__(
        self, student_states: Sequence[Tensor], teacher_states: Mapping[int, Tensor], mask: Tensor | None
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Make targets and mean weights, see `attention_targets`."""
        return attention_targets(student_states, teacher_states, self.reach, mask, self.detach)


def train_alp(session: Session, teacher: Teacher, student: nn.Module, attend: Attention, weights: HiddenConfig) -> None:
    """Distil a teacher into a student by attention of every token (steps 1-4 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        teacher: Gives outputs of a batch.
        student: The student.
        attend: Makes the student's targets of the states of both.
        weights: Temperature, and the weights of the losses.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Every token of a student layer picks its target among the teacher's layers.
            targets, attention = attend(s.hidden_states, t.states, batch.mask)  # by student layer, (B, S, D)

            # 3. Three unweighted losses; all weights stand on one line.
            soft = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            hidden = hidden_mse_loss(s.hidden_states, targets, batch.mask)
            loss = weights.soft_weight * soft + weights.hard_weight * hard + weights.hidden_mse_weight * hidden
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard, hidden_loss=hidden, attn=attention)

        # 4. Clip, step, decay.
        session.step()


def train_alp_cls(
    session: Session, teacher: Teacher, student: nn.Module, attend: Attention, weights: HiddenConfig
) -> None:
    """Distil a teacher into a student by attention of [CLS]; arguments as of `train_alp`."""
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. The [CLS] vector of a student layer picks its target among the teacher's layers.
            first = [state[:, :1] for state in s.hidden_states]
            states = {layer: state[:, :1] for layer, state in t.states.items()}
            targets, attention = attend(first, states, None)  # by student layer, (B, 1, D)

            # 3. Three unweighted losses; all weights stand on one line.
            soft = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            hidden = hidden_mse_loss(first, targets, None)
            loss = weights.soft_weight * soft + weights.hard_weight * hard + weights.hidden_mse_weight * hidden
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard, hidden_loss=hidden, attn=attention)

        # 4. Clip, step, decay.
        session.step()
