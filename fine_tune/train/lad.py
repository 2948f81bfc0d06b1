"""LAD: layer-wise adaptive distillation; and LAD-NO and the probes of LAD, which differ in their gates alone.

Source: Lin, Chen, Kao: LAD, Sensors 2023, 23(3):1483; released `run_lad_distil.py`. LAD-NO: section 5.4, released
`run_lad_no_distil.py`. `lad_user_defined`, `partial_lad`: sections 5.1 and 5.5, released `run_probing_lad.py`.

1. Teacher and student read the same sentences; only the student learns.
2. Gates turn the teacher's layers into a target for each student layer (`model.gate`).
   LAD folds layers 1..i into an aggregate for each i; student layer l gets the one at layer l * k, or at that of the
   user's map (`lad_user_defined`). `partial_lad`: some student layers learn plain teacher layers.
   LAD-NO has no chain: the gate of student layer l mixes the teacher layer i that it follows with layer i - 1.
3. Loss: soft targets, gold labels, and the squared distance of student layers to their targets.
4. Student and gates each clip, step and decay on their own schedule. The hidden loss trains both.

Departures (reasons in doc/methods/lad.md):
1. Padding is masked out of the gates' norm and of the hidden loss (`--pad_to_max` lets it count, as released).
2. One backward pass per micro-batch over the sum of all terms; the gradient is the same.
3. The student's embeddings are copied, see `model.copy_layers`. 4. There is no untrained first gate, see `model.gate`.
"""

from torch import nn

from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss
from fine_tune.run.session import Session
from fine_tune.teacher.protocol import Teacher
from fine_tune.train.methods import HiddenConfig


def train_lad(session: Session, teacher: Teacher, student: nn.Module, gates: nn.Module, weights: HiddenConfig) -> None:
    """Distil a teacher into a student through gates (steps 1-4 of the module docstring).

    Args:
        session: The run: its updates, and what it records.
        teacher: Gives outputs of a batch.
        student: The student.
        gates: Make the student's targets of the teacher's states.
        weights: Temperature, and the weights of the losses.
    """
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Gates turn the teacher's layers into one target for each student layer.
            targets, watched = gates(t.states, batch.mask)  # by student layer, (B, S, D)

            # 3. Three unweighted losses; all weights stand on one line.
            soft = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            hidden = hidden_mse_loss(s.hidden_states, targets, batch.mask)
            loss = weights.soft_weight * soft + weights.hard_weight * hard + weights.hidden_mse_weight * hidden
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard, hidden_loss=hidden, **watched)

        # 4. Student and gates each clip, step and decay on their own schedule.
        session.step()
