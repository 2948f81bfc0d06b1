"""What every script does around a student's loop: find the teacher, build the student, place both, open the run.

The methods themselves are elsewhere: what they ask of a teacher, their gates and their loops in `train/`.
"""

import logging
from collections.abc import Iterator

import torch
from torch import nn

from fine_tune.data.batches import Batch, updates
from fine_tune.data.tokens import load_labelled
from fine_tune.flags.option import Flags
from fine_tune.flags.shared import (
    EpochConfig,
    OptimConfig,
    OutputsConfig,
    PrecisionConfig,
    RunConfig,
    SpeedConfig,
    StepConfig,
    StudentConfig,
    TeacherRef,
)
from fine_tune.hardware.device import device_number
from fine_tune.hardware.precision import resolve_precision
from fine_tune.layer_map import LayerMap, written
from fine_tune.model import load, student
from fine_tune.model.gate import GateChain, GatePairs, GateShape, calibrate
from fine_tune.model.placement import place
from fine_tune.model.projection import ProjectedStudent
from fine_tune.path import digest
from fine_tune.run import build, preflight
from fine_tune.run import folder as run
from fine_tune.run import session as log
from fine_tune.run.begin import Built, begin, finish
from fine_tune.run.optim import Part, Updater
from fine_tune.tasks.table import TASKS
from fine_tune.teacher.cache import open_teacher
from fine_tune.teacher.live import Needs, Teacher, announced
from fine_tune.train.methods import GateFlags

logger = logging.getLogger(__name__)

Gates = GateChain | GatePairs


class Job:
    """A student's run before its first update.

    Args:
        flags: The script's flags; what the user left open is filled in.
        argv: The command.

    Raises:
        ValueError: Flags that contradict each other, the teacher or the machine.
        OSError: Files that are not there, or that must not be replaced.
    """

    gates: Gates | None = None

    def __init__(self, flags: Flags, argv: list[str]) -> None:
        """Find devices, teacher and rows; make sure that the run's folder is free."""
        self.flags, self.argv = flags, argv
        cfg, ref, precision, sizes = flags[RunConfig], flags[TeacherRef], flags[PrecisionConfig], flags[StudentConfig]
        outputs, gate = flags.get(OutputsConfig), flags.get(GateFlags)
        places = (outputs.tdevice_id if outputs else None, gate.gate_device_id if gate else None)
        self.devices = build.resolve_devices(cfg.device_id, *places)
        precision.precision = resolve_precision(precision.precision, precision.amp, *self.devices)
        run.set_up_process(cfg.seed, self.devices.student)
        run.new_run_dir(cfg, ref)
        task = TASKS[cfg.task]
        self.teacher = load.load_teacher(ref, task, sizes.ptrain_ver)
        ref.tckpt = self.teacher.step
        student.resolve_sizes(sizes, cfg.model, self.teacher)
        self.rows = load_labelled(task, cfg.dataset, self.teacher.tokenizer, self.teacher.config["max_seq_len"])
        steps = flags[StepConfig]
        steps.total_step, steps.warmup_step = build.resolve_duration(
            steps, flags[EpochConfig], len(self.rows), cfg.batch_size
        )
        if cfg.preflight:
            preflight.check_schedule(steps)
            preflight.check_rows(self.rows, self.teacher.tokenizer)
            preflight.check_teacher(self.teacher, self.rows, self.devices.teacher)

    @property
    def layers(self) -> tuple[int, int]:
        """L_t and L_s."""
        student_layers = self.flags[StudentConfig].num_hidden_layers
        assert student_layers is not None
        return self.teacher.model.num_layers, student_layers

    def build_student(self, matched: bool = True, named: LayerMap | None = None) -> nn.Module:
        """Build the student and put it in its place.

        Args:
            matched: Its hidden states are compared with the teacher's: of another width, they are projected.
            named: Student layers that start from teacher layers of the user's.
        """
        self.student, self.origin = student.build_student(self.flags[StudentConfig], self.teacher, named)
        if self.flags[RunConfig].preflight:
            preflight.check_size(self.teacher.model, self.student)
        self.trained: nn.Module = self.student
        width = self.teacher.model.width
        if matched and self.student.width != width:
            self.trained = ProjectedStudent(self.student, width)
            self.origin["projection"] = f"random, {self.student.width} to {width}"
        return self.place(self.trained, self.devices.student)

    def gate_shape(self, seq_length: int | None = None) -> GateShape:
        """Give the shape of gate blocks; they are built after the student, so that it does not depend on them.

        Args:
            seq_length: Positions of the layer norm; None for those of the run's inputs.
        """
        gate, length = self.flags[GateFlags], seq_length or self.rows.max_seq_len
        return GateShape(self.teacher.model.width, length, gate.gate_norm, gate.gate_init_bias)

    def place_gates(self, gates: Gates, flags: Flags) -> None:
        """Put gates in their place; `flags` are their optimiser and duration, the student's where left open."""
        build.resolve_gate_duration(flags[StepConfig], self.flags[StepConfig], self.flags[EpochConfig])
        if self.flags[RunConfig].preflight:
            preflight.check_schedule(flags[StepConfig], "gate_")
        self.gates, self.gate_flags = gates, flags
        self.place(gates, self.devices.gate)

    def place(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Put a model on a device, in the run's precision."""
        place(model, device, self.flags[PrecisionConfig], self.flags[SpeedConfig])
        return model

    def open_teacher(self, needs: Needs) -> Teacher:
        """Put the teacher in its place, or read its outputs from a cache; give the gates' norms its scale, if asked."""
        cfg, cache, speed = self.flags[RunConfig], self.flags[OutputsConfig], self.flags[SpeedConfig]
        self.place(self.teacher.model, self.devices.teacher)
        above = range(max(needs.layers) + 1, self.layers[0]) if needs.level == "states" else ()
        unread = above if self.gates is None else set(range(self.layers[0])) - set(needs.layers)
        if unread:
            logger.warning(
                "teacher layers that teach nobody: %s", ", ".join(str(layer + 1) for layer in sorted(unread))
            )
        teacher = open_teacher(self.teacher, self.devices.teacher, self.rows, needs, cache, cfg, speed)
        if self.gates is not None and self.flags[GateFlags].gate_norm_init == "teacher":
            padded = self.rows.max_seq_len if cfg.pad_to_max else None
            (first,) = next(updates(self.rows, batch_size=cfg.batch_size, seed=cfg.seed, pad_to=padded))
            states = {layer: state[:, : self.gates.shape.seq_length] for layer, state in teacher(first).states.items()}
            calibrate(self.gates.blocks, states, first.mask if self.gates.shape.seq_length > 1 else None)
        return teacher

    def updates(self, teacher: Teacher | None = None) -> Iterator[list[Batch]]:
        """Give the micro-batches of every update; a teacher hears of each one beforehand."""
        mine = build.updates_of(self.flags[RunConfig], self.rows, self.log.done)
        return announced(mine, teacher) if teacher else mine

    def updater(self) -> Updater:
        """Give the student, and the gates if there are any, their optimisers."""
        steps, speed = self.flags[StepConfig], self.flags[SpeedConfig]
        parts = {"": build.part_of(self.trained, self.devices.student, self.flags[OptimConfig], steps, speed)}
        if self.gates is not None:
            blocks, steps = list(self.gates.blocks.values()), self.gate_flags[StepConfig]
            assert steps.total_step is not None and steps.warmup_step is not None
            parts["gate_"] = Part(blocks, self.gate_flags[OptimConfig], steps.total_step, steps.warmup_step)
        self.made = Updater(parts, half=self.flags[PrecisionConfig].precision == "fp16")
        return self.made

    def start(self, method: str, layer_map: LayerMap | None = None) -> log.TrainLog:
        """Create the run's folder, tell the user what will be trained, open its log.

        Args:
            method: Name of the method, for readers of the run.
            layer_map: The teacher layer that each student layer follows, if the method has such a map.
        """
        values = self.flags.values() | {"method": method}
        if layer_map is not None:
            values["layer_map"] = written(layer_map)
        beside = {}
        if self.gates is not None:
            shape = self.gates.shape
            gate_values = self.gate_flags.values() | {"device_id": device_number(self.devices.gate)}
            beside["gate_config.json"] = gate_values | {
                "dimension": shape.dimension,
                "max_seq_length": shape.seq_length,
            }
        trained = [self.trained, *([self.gates] if self.gates is not None else [])]
        made_from = {"teacher_sha256": digest(self.teacher.checkpoint)}
        places = self.devices._asdict()
        built = Built(self.student, self.teacher.tokenizer, trained, self.made, self.rows, places, made_from, beside)
        self.log = begin(self.flags, values, self.argv, built)
        devices = {name: str(device) for name, device in places.items()}
        run.print_table(f"Run: {method}", values | {"rows": len(self.rows), "devices": devices})
        for what in beside.values():
            run.print_table("Gates", what)
        self.print_student(layer_map or {})
        return self.log

    def print_student(self, layer_map: LayerMap) -> None:
        """Print where each part of the student comes from, and which teacher layer it learns."""
        learns = {f"layer {student + 1}": f"learns teacher layer {layer + 1}" for student, layer in layer_map.items()}
        parts = {name: f"{origin:<22} {learns.get(name, '')}" for name, origin in self.origin.items()}
        run.print_table("Student", parts | {name: text for name, text in learns.items() if name not in parts})

    def finish(self) -> None:
        """Note the end of the run."""
        finish(self.log)
