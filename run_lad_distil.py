#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by LAD, for a number of updates.

    python run_lad_distil.py --teacher_exp teacher --experiment LAD --task sst2 --total_step 6000 --warmup_step 600

Loop: `fine_tune/train/lad.py`. In epochs: `run_lad_distil_epoch.py`. Recipes: `scripts/<task>.sh`.
"""

from collections.abc import Sequence

from fine_tune.config import (
    CacheConfig,
    DistillConfig,
    EpochConfig,
    GateFlags,
    OptimConfig,
    PrecisionConfig,
    RunConfig,
    SpeedConfig,
    StepConfig,
    StudentConfig,
    TeacherRef,
    merged,
    save_config,
)
from fine_tune.flag import Parser, add_flags, from_args, usage_errors

GROUPS = (
    *(RunConfig, TeacherRef, StudentConfig, StepConfig, EpochConfig, OptimConfig, DistillConfig, GateFlags),
    *(PrecisionConfig, SpeedConfig, CacheConfig),
)


def build_parser(description: str | None = __doc__) -> Parser:
    """Name the groups of flags that this script takes."""
    parser = Parser(description)
    for group in GROUPS:
        add_flags(parser, group)
    add_flags(parser, OptimConfig, title="Optimiser of the gates", prefix="gate_")
    add_flags(parser, StepConfig, title="Schedule of the gates (default: the student's)", prefix="gate_")
    parser.set_defaults(lr=1e-4, gate_lr=1e-6)
    return parser


def main(argv: Sequence[str] | None = None, parser: Parser | None = None) -> None:
    """Wire and train."""
    parser = parser or build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = [from_args(group, args) for group in GROUPS]
        cfg, ref, sizes, steps, epochs, optim, distill, gate, precision, speed, cache = flags
        gate_optim, gate_steps = from_args(OptimConfig, args, "gate_"), from_args(StepConfig, args, "gate_")

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune import build, load, run
        from fine_tune.data import load_split
        from fine_tune.device import device_number
        from fine_tune.distributed import wrap
        from fine_tune.layer_map import describe_layer_map
        from fine_tune.log import TrainLog
        from fine_tune.model.gate import GateChain
        from fine_tune.optim import Part, Updater
        from fine_tune.path import log_dir
        from fine_tune.placement import place
        from fine_tune.precision import resolve_precision
        from fine_tune.task import TASKS
        from fine_tune.teacher import announced
        from fine_tune.teacher_cache import open_teacher
        from fine_tune.train.lad import teacher_needs, train_lad

        devices = build.resolve_devices(cfg.device_id, ref.tdevice_id, gate.gate_device_id)
        precision.precision = resolve_precision(precision.precision, precision.amp, *devices)
        run.set_up_process(cfg.seed, devices.student)
        run.new_run_dir(cfg, ref)
        teacher = load.load_teacher(ref, TASKS[cfg.task], sizes.ptrain_ver)
        student, layer_map, origin = build.build_student(sizes, cfg.model, teacher)
        gates = GateChain(student.width, sizes.max_seq_len, teacher.model.num_layers, layer_map, gate.reverse_gate)
        for model, device in zip((teacher.model, student, gates), devices, strict=True):
            place(model, device, precision, speed)
        rows = load_split(TASKS[cfg.task], cfg.dataset, teacher.tokenizer, sizes.max_seq_len)
        steps.total_step, steps.warmup_step = build.resolve_duration(steps, epochs, len(rows), cfg.batch_size)
        build.resolve_gate_duration(gate_steps, steps, epochs)
        outputs = open_teacher(teacher, devices.teacher, rows, teacher_needs(gates), cache, cfg, speed)
        batches = announced(build.updates_of(cfg, rows), outputs)
        student_part = build.part_of(student, devices.student, optim, steps, speed)
        gate_part = Part(list(gates.blocks.values()), gate_optim, gate_steps.total_step, gate_steps.warmup_step)
        updater = Updater({"": student_part, "gate_": gate_part}, half=precision.precision == "fp16")
        ref.tckpt = teacher.step
        values = merged(cfg, ref, sizes, steps, epochs, optim, distill, gate, precision, speed, cache)
        places = {name: str(device) for name, device in devices._asdict().items()}
        folder = run.start_run(cfg, values, student, teacher.tokenizer, places, parser.argv)
        gate_values = merged(gate_optim, gate_steps) | {"device_id": device_number(devices.gate)}
        gate_values |= {"dimension": student.width, "max_seq_length": sizes.max_seq_len}
        save_config(folder / "gate_config.json", gate_values)

    run.print_table("LAD", values | {"rows": len(rows), "devices": places})
    run.print_table("Gates", gate_values)
    run.print_table("Student", {"layer map (student<-teacher)": describe_layer_map(layer_map), **origin})
    with TrainLog(folder, log_dir(cfg.experiment, cfg.model, cfg.task), steps.total_step) as log:
        models = (outputs, wrap(student), wrap(gates))
        train_lad(cfg, distill, steps.total_step, models, updater, batches, devices, folder, log)
    run.finish_run(folder)


if __name__ == "__main__":
    main()
