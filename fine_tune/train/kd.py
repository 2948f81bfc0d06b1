"""KD: knowledge distillation of the logits alone, the baseline for every method that matches hidden states.

Source: Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015.

1. Teacher and student read the same sentences; only the student learns.
2. Loss: soft targets and gold labels.
3. Clip, step, decay the learning rate.

Departures: none from the paper; the released LAD code has no such script.
"""

from collections.abc import Iterator

from torch import nn

from fine_tune.data.batches import Batch
from fine_tune.hardware.device import to_device
from fine_tune.hardware.distributed import micro_batches
from fine_tune.losses import hard_target_loss, soft_target_loss
from fine_tune.run.build import Devices
from fine_tune.run.optim import Updater
from fine_tune.run.session import TrainLog
from fine_tune.teacher.live import Needs, Teacher
from fine_tune.train.methods import LogitConfig

TEACHER_NEEDS = Needs("logits")


def train_kd(
    distill: LogitConfig,
    models: tuple[Teacher, nn.Module],
    updater: Updater,
    updates: Iterator[list[Batch]],
    devices: Devices,
    log: TrainLog,
) -> None:
    """Distil a teacher's logits into a student (steps 1-3 of the module docstring).

    Args:
        distill: Temperature and weights.
        models: Teacher, student.
        updater: Of the student.
        updates: Micro-batches of every update.
        devices: Where the models live.
        log: Where losses and checkpoints go.
    """
    teacher, student = models
    student.train()

    for step in log.steps():
        for batch in micro_batches(next(updates), student):
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**to_device(batch.student, devices.student))

            # 2. Two unweighted losses; both weights stand on one line.
            soft = soft_target_loss(s.logits, to_device(t.logits, devices.student), distill.softmax_temp)
            hard = hard_target_loss(s.logits, to_device(batch.label, devices.student))
            loss = distill.soft_weight * soft + distill.hard_weight * hard
            updater.backward(loss * batch.weight)
            log.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard)

        # 3. Clip, step, decay.
        log.update(step, updater.step())
        log.save(step, student)
