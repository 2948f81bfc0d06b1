"""Matching with stages: hidden states of all tokens, then or at once logits and a supervised contrast of labels.

The MNLI document calls a run of it PKD; it is not that of Sun et al. 2019 (`train.pkd`).

Source: released `run_fine_tune_distill_mgpu.py`; the contrast: Khosla et al. 2020, Gunel et al. 2021.

1. Teacher and student read the same sentences; only the student learns.
2. Student layers learn the states of teacher layers as they are: squared distance, `mu` times the sum over layers.
3. Logits: (1 - soft_weight) gold labels + soft_weight soft targets. Contrast: last [CLS] states of one label attract
   each other within a micro-batch. The losses are (1 - ce_weight) contrast + ce_weight logits; one of weight 0 is not
   computed.
4. Clip, step, decay: one schedule. With `cls_steps`, step 2 alone until then, step 3 alone afterwards.

Departures from the released code (reasons in doc/methods/match.md):
1. Student layer l follows teacher layer l * k, not 1 + (l - 1) * k. 2. Padding is masked out of the hidden loss.
3. Batches are class-balanced only in runs that have a contrast. 4. `--amp` changes none of this.
5. Stages need both losses; the released code switches the second on without being asked.
"""

import logging

from torch import Tensor, nn

from fine_tune.data.batches import Batch
from fine_tune.layer_map import LayerMap
from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss, supervised_contrast_loss
from fine_tune.model.classifier import Output
from fine_tune.run.session import Session
from fine_tune.teacher.protocol import Teacher, TeacherOutput
from fine_tune.train.methods import MatchConfig

logger = logging.getLogger(__name__)


def train_match(
    session: Session, teacher: Teacher, student: nn.Module, layer_map: LayerMap, weights: MatchConfig
) -> None:
    """Match hidden states, logits and labels at once (steps 1-4 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        teacher: Gives outputs of a batch.
        student: The student.
        layer_map: The teacher layer that each student layer follows.
        weights: Weights, temperatures, stages.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Student layers learn teacher layers as they are; the sum over layers counts.
            targets = {layer: t.states[followed].float() for layer, followed in layer_map.items()}  # (B, S, D)
            hidden = len(s.hidden_states) * hidden_mse_loss(s.hidden_states, targets, batch.mask)

            # 3. Logits and labels.
            classify, watched = classification_loss(s, t, batch, weights)
            loss = weights.mu * hidden + classify
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, hidden_loss=hidden, **watched)

        # 4. Clip, step, decay.
        session.step()


def train_match_hidden(
    session: Session, teacher: Teacher, student: nn.Module, layer_map: LayerMap, weights: MatchConfig
) -> None:
    """Match hidden states alone, until `cls_steps` if there are any; arguments as of `train_match`."""
    student.train()
    for update in session.updates(weights.cls_steps or None):
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Student layers learn teacher layers as they are; the sum over layers counts.
            targets = {layer: t.states[followed].float() for layer, followed in layer_map.items()}  # (B, S, D)
            hidden = len(s.hidden_states) * hidden_mse_loss(s.hidden_states, targets, batch.mask)
            loss = weights.mu * hidden
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, hidden_loss=hidden)

        # 4. Clip, step, decay.
        session.step()


def train_match_classify(session: Session, teacher: Teacher, student: nn.Module, weights: MatchConfig) -> None:
    """Learn logits and labels alone, in the updates that are left; arguments as of `train_match`."""
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 3. Logits and labels.
            loss, watched = classification_loss(s, t, batch, weights)
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, **watched)

        # 4. Clip, step, decay.
        session.step()


def classification_loss(
    s: Output, t: TeacherOutput, batch: Batch, weights: MatchConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weigh the losses on logits and the contrast of labels (step 3); one of weight 0 is left out.

    Args:
        s: The student's outputs.
        t: The teacher's.
        batch: The rows.
        weights: Their weights and temperatures.

    Returns:
        The sum, and each loss, unweighted, by its name.
    """
    found, terms = dict[str, Tensor](), list[Tensor]()
    if weights.ce_weight > 0:
        found["soft_loss"] = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
        found["hard_loss"] = hard_target_loss(s.logits, batch.label)
        kd = weights.soft_weight * found["soft_loss"] + (1 - weights.soft_weight) * found["hard_loss"]
        terms.append(weights.ce_weight * kd)
    if weights.ce_weight < 1:
        found["scl_loss"] = supervised_contrast_loss(s.first, batch.label, weights.scl_temp)
        terms.append((1 - weights.ce_weight) * found["scl_loss"])
    return sum(terms[1:], terms[0]), found


def tell_mu(mu: float, layers: int) -> None:
    """Say what `--mu` means here: other methods weigh the mean over the student's layers."""
    logger.info(
        "--mu %g weighs the sum over %d layers: %g for their mean, as in the other scripts", mu, layers, mu * layers
    )
