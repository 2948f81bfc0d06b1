#!/usr/bin/env python3
"""Train the same student on gold labels alone: the baseline that shows what a teacher is worth.

    python run_student_fine_tune.py --teacher_exp teacher --experiment no_teacher --task sst2 --epoch 3

The student has the sizes and the start that `run_lad_distil.py` would give it. Loop: `fine_tune/train/teacher.py`.
"""

from collections.abc import Sequence

from fine_tune.config import (
    EpochConfig,
    OptimConfig,
    PrecisionConfig,
    RunConfig,
    SpeedConfig,
    StepConfig,
    StudentConfig,
    TeacherRef,
    merged,
)
from fine_tune.flag import Parser, add_flags, from_args, usage_errors

GROUPS = (RunConfig, TeacherRef, StudentConfig, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig)


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    parser = Parser(__doc__)
    for group in GROUPS:
        add_flags(parser, group)
    parser.set_defaults(lr=1e-4)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Wire and train."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        cfg, ref, sizes, steps, epochs, optim, precision, speed = (from_args(group, args) for group in GROUPS)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune import build, load, run
        from fine_tune.data import load_split
        from fine_tune.distributed import wrap
        from fine_tune.log import TrainLog
        from fine_tune.optim import Updater
        from fine_tune.path import log_dir
        from fine_tune.placement import place
        from fine_tune.precision import resolve_precision
        from fine_tune.task import TASKS
        from fine_tune.train.teacher import fine_tune

        device = build.resolve_devices(cfg.device_id).student
        precision.precision = resolve_precision(precision.precision, precision.amp, device)
        run.set_up_process(cfg.seed, device)
        run.new_run_dir(cfg, ref)
        teacher = load.load_teacher(ref, TASKS[cfg.task], sizes.ptrain_ver)
        student, _, origin = build.build_student(sizes, cfg.model, teacher)
        place(student, device, precision, speed)
        rows = load_split(TASKS[cfg.task], cfg.dataset, teacher.tokenizer, sizes.max_seq_len)
        batches = build.updates_of(cfg, rows)
        steps.total_step, steps.warmup_step = build.resolve_duration(steps, epochs, len(rows), cfg.batch_size)
        part = build.part_of(student, device, optim, steps, speed)
        updater = Updater({"": part}, half=precision.precision == "fp16")
        ref.tckpt = teacher.step
        values = merged(cfg, ref, sizes, steps, epochs, optim, precision, speed)
        folder = run.start_run(cfg, values, student, teacher.tokenizer, {"student": str(device)}, parser.argv)

    run.print_table("Student without a teacher", values | {"rows": len(rows), "device": device} | origin)
    with TrainLog(folder, log_dir(cfg.experiment, cfg.model, cfg.task), steps.total_step) as log:
        fine_tune(cfg, steps.total_step, wrap(student), updater, batches, device, folder, log)
    run.finish_run(folder)


if __name__ == "__main__":
    main()
