#!/usr/bin/env python3
"""Distil a fine-tuned teacher into a smaller student by LAD, for a number of updates.

    python run_lad_distil.py --teacher_exp teacher --experiment LAD --task sst2 --total_step 6000 --warmup_step 600

Loop: `fine_tune/train/lad.py`. In epochs: `run_lad_distil_epoch.py`. Recipes: `scripts/<task>.sh`.
"""

from collections.abc import Sequence

from fine_tune.config import (
    DistillConfig,
    EpochConfig,
    GateFlags,
    OptimConfig,
    RunConfig,
    StepConfig,
    StudentConfig,
    TeacherRef,
    merged,
    save_config,
)
from fine_tune.flag import Parser, add_flags, from_args, usage_errors

GROUPS = (RunConfig, TeacherRef, StudentConfig, StepConfig, EpochConfig, OptimConfig, DistillConfig, GateFlags)


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
        cfg, ref, sizes, steps, epochs, optim, distill, gate = (from_args(group, args) for group in GROUPS)
        gate_optim, gate_steps = from_args(OptimConfig, args, "gate_"), from_args(StepConfig, args, "gate_")

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune import build, load, run
        from fine_tune.data import load_split, updates
        from fine_tune.device import device_number
        from fine_tune.layer_map import describe_layer_map
        from fine_tune.log import TrainLog
        from fine_tune.model.gate import GateChain
        from fine_tune.optim import Updater
        from fine_tune.path import log_dir
        from fine_tune.seed import set_seed
        from fine_tune.task import TASKS
        from fine_tune.train.lad import train_lad

        run.set_up_process()
        set_seed(cfg.seed)
        run.new_run_dir(cfg, ref)
        devices = build.resolve_devices(cfg.device_id, ref.tdevice_id, gate.gate_device_id)
        teacher = load.load_teacher(ref, TASKS[cfg.task], devices.teacher, cfg.amp, sizes.ptrain_ver)
        student, layer_map, origin = build.build_student(sizes, cfg.model, teacher)
        load.set_amp(student, devices.student, cfg.amp)
        teacher_layers = teacher.model.num_layers
        gates = GateChain(student.width, sizes.max_seq_len, teacher_layers, layer_map, gate.reverse_gate)
        rows = load_split(TASKS[cfg.task], cfg.dataset, teacher.tokenizer, sizes.max_seq_len)
        pad_to = sizes.max_seq_len if cfg.pad_to_max else None
        batches = updates(rows, batch_size=cfg.batch_size, accum_step=cfg.accum_step, seed=cfg.seed, pad_to=pad_to)
        steps.total_step, steps.warmup_step = build.resolve_duration(steps, epochs, len(rows), cfg.batch_size)
        if gate_steps.total_step is None and gate_steps.warmup_step is None:
            gate_steps.warmup_step = steps.warmup_step
        gate_steps.total_step = gate_steps.total_step or steps.total_step
        gate_steps.total_step, gate_steps.warmup_step = build.resolve_duration(
            gate_steps, EpochConfig(epoch=None, warmup_rate=epochs.warmup_rate), len(rows), cfg.batch_size
        )
        ref.tckpt = teacher.step
        values = merged(cfg, ref, sizes, steps, epochs, optim, distill, gate)
        places = {name: str(device) for name, device in devices._asdict().items()}
        folder = run.start_run(cfg, values, student, teacher.tokenizer, places, parser.argv)
        gate_values = merged(gate_optim, gate_steps) | {"device_id": device_number(devices.gate)}
        gate_values |= {"dimension": student.width, "max_seq_length": sizes.max_seq_len}
        save_config(folder / "gate_config.json", gate_values)
        student_updater = Updater([student.to(devices.student)], optim, steps.total_step, steps.warmup_step)
        gate_blocks = list(gates.to(devices.gate).blocks.values())
        gate_updater = Updater(gate_blocks, gate_optim, gate_steps.total_step, gate_steps.warmup_step)

    run.print_table("LAD", values | {"rows": len(rows), "devices": places})
    run.print_table("Gates", gate_values)
    run.print_table("Student", {"layer map (student<-teacher)": describe_layer_map(layer_map), **origin})
    with TrainLog(folder, log_dir(cfg.experiment, cfg.model, cfg.task), steps.total_step) as log:
        models, updaters = (teacher.model, student, gates), (student_updater, gate_updater)
        train_lad(cfg, distill, steps.total_step, models, updaters, batches, devices, folder, log)
    run.finish_run(folder)
    print(f"\ncheckpoints and logs: {folder}")


if __name__ == "__main__":
    main()
