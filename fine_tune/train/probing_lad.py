"""Two probes of LAD: gates for the lower student layers alone, and gates on [CLS] alone.

Source: Lin, Chen, Kao: LAD, Sensors 2023, 23(3):1483, sections 5.5 and 5.2; released `run_probing_lad.py`. The third
probe, `lad_user_defined` (section 5.1), is LAD with a layer map of the user's: `train.lad`.

1. Teacher and student read the same sentences; only the student learns.
2. `partial_lad`: some student layers learn aggregates of the chain, the others plain teacher layers.
   `lad_cls`: the chain folds the teacher's [CLS] vectors, with a layer norm over the width.
3. Loss: soft targets, gold labels, and the squared distance of student layers to their targets.
4. Student and gates each clip, step and decay on their own schedule. The hidden loss trains both.

Departures: those of LAD, see `train.lad`.
"""

from collections.abc import Iterator

from torch import nn

from fine_tune.data.batches import Batch
from fine_tune.hardware.device import to_device
from fine_tune.hardware.distributed import micro_batches
from fine_tune.layer_map import LayerMap, layer_numbers, paired, uniform_layer_map
from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss
from fine_tune.model.gate import GateChain
from fine_tune.run.build import Devices
from fine_tune.run.optim import Updater
from fine_tune.run.session import TrainLog
from fine_tune.teacher.live import Needs, Teacher
from fine_tune.train.methods import LadProbeConfig, LogitConfig


def probe_maps(
    probe: LadProbeConfig, gate_norm: str, teacher_layers: int, student_layers: int
) -> tuple[LayerMap, LayerMap]:
    """Find which student layers learn which gates' aggregates, and which of them learn plain teacher layers.

    Raises:
        ValueError: `--gate_indices` is missing, the indices do not fit the models, or a flag would have no effect.
    """
    if probe.probing_exp == "lad_cls" and gate_norm != "seq":
        raise ValueError(f"--gate_norm {gate_norm}: lad_cls has one vector per sentence, whose norm is over the width")
    if probe.probing_exp == "lad_cls" and probe.gate_indices is None and probe.student_indices is None:
        return uniform_layer_map(teacher_layers, student_layers), {}
    if probe.gate_indices is None:
        raise ValueError(f"--probing_exp {probe.probing_exp} needs --gate_indices, in 1..{teacher_layers}")
    if probe.probing_exp == "partial_lad":
        return partial_maps(probe.gate_indices, probe.student_indices, teacher_layers, student_layers)
    return paired("--gate_indices", probe.gate_indices, probe.student_indices, teacher_layers, student_layers), {}


def partial_maps(
    gate_indices: str, student_indices: str | None, teacher_layers: int, student_layers: int
) -> tuple[LayerMap, LayerMap]:
    """Split the student's layers: those that learn from gates, and those that learn the teacher layers that follow.

    With k = L_t // L_s the latter are max(gate_indices) + k, + 2 k, ..

    Args:
        gate_indices: 1-based gates, for as many student layers, ascending.
        student_indices: All 1-based student layers, in the order in which layers are given out; None for 1, 2, ..
        teacher_layers: L_t.
        student_layers: L_s.

    Raises:
        ValueError: The lists do not fit the models.
    """
    gates = layer_numbers("--gate_indices", gate_indices, "teacher", teacher_layers)
    if student_indices is None:
        student_indices = ",".join(str(layer + 1) for layer in range(student_layers))
    students = layer_numbers("--student_indices", student_indices, "student", student_layers)
    if len(students) != student_layers:
        raise ValueError(
            f"--student_indices {student_indices}: partial_lad teaches all of 1..{student_layers}; name all, or leave "
            "the flag out"
        )
    if len(gates) > student_layers:
        raise ValueError(f"--gate_indices {gate_indices} names {len(gates)} gates for {student_layers} student layers")
    if gates != sorted(set(gates)):
        raise ValueError(f"--gate_indices {gate_indices}: give them in ascending order, each once")
    stride = uniform_layer_map(teacher_layers, student_layers)[0] + 1  # k; refuses a student deeper than its teacher
    plain = [gates[-1] + stride * number for number in range(1, student_layers - len(gates) + 1)]
    if plain and plain[-1] >= teacher_layers:
        raise ValueError(
            f"--gate_indices {gate_indices} leaves {len(plain)} student layers to teacher layers "
            f"{', '.join(str(layer + 1) for layer in plain)}; there are 1..{teacher_layers}"
        )
    return dict(zip(students, gates, strict=False)), dict(zip(students[len(gates) :], plain, strict=True))


def teacher_needs(level: str, gates: GateChain, plain: LayerMap) -> Needs:
    """Logits, and the states of the layers that are folded or learned plainly: of all tokens, or of [CLS] (`cls`)."""
    return Needs(level, tuple(sorted({*gates.reads, *plain.values()})))


def train_partial_lad(
    distill: LogitConfig,
    hidden_mse_weight: float,
    models: tuple[Teacher, nn.Module, nn.Module],
    updater: Updater,
    updates: Iterator[list[Batch]],
    devices: Devices,
    log: TrainLog,
    plain: LayerMap,
) -> None:
    """Distil a teacher into a student, in part through gates (steps 1-4 of the module docstring).

    Args:
        distill: Temperature, and the weights of soft and hard targets.
        hidden_mse_weight: Weight of the hidden loss.
        models: Teacher, student, gates.
        updater: Of student and gates.
        updates: Micro-batches of every update.
        devices: Where the models live.
        log: Where losses and checkpoints go.
        plain: The student layers that learn teacher layers as they are.
    """
    teacher, student, gates = models
    student.train()

    for step in log.steps():
        for batch in micro_batches(next(updates), student, gates):
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**to_device(batch.student, devices.student))

            # 2. Aggregates for the student layers that learn from gates, teacher layers for the others.
            states, gate_mask = to_device(t.states, devices.gate), to_device(batch.mask, devices.gate)
            targets, watched = gates(states, gate_mask)  # by student layer, (B, S, D)
            targets |= {layer: states[followed].float() for layer, followed in plain.items()}

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


def train_lad_cls(
    distill: LogitConfig,
    hidden_mse_weight: float,
    models: tuple[Teacher, nn.Module, nn.Module],
    updater: Updater,
    updates: Iterator[list[Batch]],
    devices: Devices,
    log: TrainLog,
) -> None:
    """Distil a teacher into a student through gates on [CLS]; arguments as of `train.lad.train_lad`."""
    teacher, student, gates = models
    student.train()

    for step in log.steps():
        for batch in micro_batches(next(updates), student, gates):
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**to_device(batch.student, devices.student))

            # 2. The gates fold the [CLS] vectors of teacher layers 1..i into one target for each student layer.
            states = to_device({layer: state[:, :1] for layer, state in t.states.items()}, devices.gate)
            targets, watched = gates(states)  # by student layer, (B, 1, D)

            # 3. Three unweighted losses; all weights stand on one line.
            soft = soft_target_loss(s.logits, to_device(t.logits, devices.student), distill.softmax_temp)
            hard = hard_target_loss(s.logits, to_device(batch.label, devices.student))
            first = [state[:, :1] for state in s.hidden_states]
            hidden = hidden_mse_loss(first, to_device(targets, devices.student), None)
            loss = distill.soft_weight * soft + distill.hard_weight * hard + hidden_mse_weight * hidden
            updater.backward(loss * batch.weight)
            log.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard, hidden_loss=hidden, **watched)

        # 4. Student and gates each clip, step and decay on their own schedule.
        log.update(step, updater.step())
        log.save(step, student, gates)
