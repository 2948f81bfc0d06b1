"""LAD-NO: LAD without iterative aggregation, one gate per student layer and no chain.

Source: Lin, Chen, Kao: LAD, Sensors 2023, 23(3):1483, section 5.4; released `run_lad_no_distil.py`.

1. Teacher and student read the same sentences; only the student learns.
2. Student layer l follows teacher layer i: its gate mixes t_i with the layer below, t_{i-1} (t_0: the embedding).
3. Loss: soft targets, gold labels, and the squared distance of student layers to their targets.
4. Student and gates each clip, step and decay on their own schedule. The hidden loss trains both.

Departures: those of LAD, see `train.lad`.
"""

from collections.abc import Iterator

from torch import nn

from fine_tune.data.batches import Batch
from fine_tune.hardware.device import to_device
from fine_tune.hardware.distributed import micro_batches
from fine_tune.layer_map import LayerMap
from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss
from fine_tune.run.build import Devices
from fine_tune.run.optim import Updater
from fine_tune.run.session import TrainLog
from fine_tune.teacher.live import Needs, Teacher
from fine_tune.train.methods import LogitConfig


def teacher_needs(layer_map: LayerMap) -> Needs:
    """Logits, and all tokens' states of the layers that are followed and of those below them."""
    return Needs("states", tuple(sorted({layer - below for layer in layer_map.values() for below in (0, 1)})))


def train_lad_no(
    distill: LogitConfig,
    hidden_mse_weight: float,
    layer_map: LayerMap,
    models: tuple[Teacher, nn.Module, nn.Module],
    updater: Updater,
    updates: Iterator[list[Batch]],
    devices: Devices,
    log: TrainLog,
) -> None:
    """Distil a teacher into a student through one gate per student layer (steps 1-4 of the module docstring).

    Args:
        distill: Temperature, and the weights of soft and hard targets.
        hidden_mse_weight: Weight of the hidden loss.
        layer_map: The teacher layer that each student layer follows.
        models: Teacher, student, gates.
        updater: Of student and gates.
        updates: Micro-batches of every update.
        devices: Where the models live.
        log: Where losses and checkpoints go.
    """
    teacher, student, gates = models
    student.train()

    for step in log.steps():
        for batch in micro_batches(next(updates), student, gates):
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**to_device(batch.student, devices.student))

            # 2. Every gate mixes the teacher layer that its student layer follows with the one below.
            states, gate_mask = to_device(t.states, devices.gate), to_device(batch.mask, devices.gate)
            below = {student_layer: states[layer - 1] for student_layer, layer in layer_map.items()}
            followed = {student_layer: states[layer] for student_layer, layer in layer_map.items()}
            targets, watched = gates(below, followed, gate_mask)  # by student layer, (B, S, D)

            # 3. Three unweighted losses; all weights stand on one line.
            soft = soft_target_loss(s.logits, to_device(t.logits, devices.student), distill.softmax_temp)
            hard = hard_target_loss(s.logits, to_device(batch.label, devices.student))
            mask = to_device(batch.mask, devices.student)
            hidden = hidden_mse_loss(s.hidden_states, to_device(targets, devices.student), mask)
            loss = distill.soft_weight * soft + distill.hard_weight * hard + hidden_mse_weight * hidden
            updater.backward(loss * batch.weight)
            log.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard, hidden_loss=hidden, **watched)

        # 4. Student and gates each clip, step and decay on their own schedule.
        log.update(step, updater.step())
        log.save(step, student, gates)
