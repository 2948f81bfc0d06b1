"""The probes of LAD: which layers learn from which gates, and LAD on [CLS].

Source: Lin, Chen, Kao: LAD, Sensors 2023, 23(3):1483, sections 5.1, 5.5 and 5.2; released `run_probing_lad.py`. The
first two probes, `lad_user_defined` and `partial_lad`, are LAD with other maps: `train.lad`. `lad_cls` has a loop:

1. Teacher and student read the same sentences; only the student learns.
2. The chain of gates folds the teacher's [CLS] vectors, with a layer norm over the width.
3. Loss: soft targets, gold labels, and the squared distance of the student's [CLS] vectors to their targets.
4. Student and gates each clip, step and decay on their own schedule. The hidden loss trains both.

Departures: those of LAD, see `train.lad`.
"""

from torch import nn

from fine_tune.layer_map import LayerMap, layer_numbers, paired, uniform_layer_map
from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss
from fine_tune.run.session import Session
from fine_tune.teacher.protocol import Teacher
from fine_tune.train.methods import HiddenConfig, LadProbeConfig


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


def train_lad_cls(
    session: Session, teacher: Teacher, student: nn.Module, gates: nn.Module, weights: HiddenConfig
) -> None:
    """Distil a teacher into a student through gates on [CLS]; arguments as of `train.lad.train_lad`."""
    student.train()
    for update in session.updates():
        for batch in update:
            # 1. Both models read the same sentences; only the student learns.
            t = teacher(batch)
            s = student(**batch.student)

            # 2. Gates fold the [CLS] vectors of the teacher's layers into one target for each student layer.
            first = {layer: state[:, :1] for layer, state in t.states.items()}
            targets, watched = gates(first)  # by student layer, (B, 1, D)

            # 3. Three unweighted losses; all weights stand on one line.
            soft = soft_target_loss(s.logits, t.logits, weights.softmax_temp, batch.multi)
            hard = hard_target_loss(s.logits, batch.label)
            hidden = hidden_mse_loss([state[:, :1] for state in s.hidden_states], targets, None)
            loss = weights.soft_weight * soft + weights.hard_weight * hard + weights.hidden_mse_weight * hidden
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, soft_loss=soft, hard_loss=hard, hidden_loss=hidden, **watched)

        # 4. Student and gates each clip, step and decay on their own schedule.
        session.step()
