#!/usr/bin/env python3
"""Fine-tune a pre-trained encoder on a task: the teacher.

    python run_fine_tune.py --experiment teacher --ptrain_ver bert-base-uncased --task sst2 --epoch 3

Loop: `fine_tune/train/fine_tune.py`. Recipes: `scripts/tune_<task>_teacher.sh`.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Flags, Parser, add_groups, usage_errors
from fine_tune.flags.shared import (
    EpochConfig,
    OptimConfig,
    Pace,
    PrecisionConfig,
    RunConfig,
    SpeedConfig,
    StepConfig,
    TeacherConfig,
)

GROUPS = (RunConfig, Pace, TeacherConfig, StepConfig, EpochConfig, OptimConfig, PrecisionConfig, SpeedConfig)


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    parser = Parser(__doc__, repeats=True)
    add_groups(parser, GROUPS)
    parser.add_argument("--num_gpu", type=int, choices=(0, 1), help="older spelling: 0 is --device_id -1, 1 is 0")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Wire and train."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.num_gpu is not None and args.device_id is None:
        args.device_id = args.num_gpu - 1
    with usage_errors(parser):
        flags = Flags(GROUPS, args)
        cfg, _, teacher, steps, epochs, optim, precision, speed = (flags[group] for group in GROUPS)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.data.tokens import load_labelled
        from fine_tune.hardware.distributed import wrap
        from fine_tune.hardware.precision import resolve_precision
        from fine_tune.model import load
        from fine_tune.model.placement import place
        from fine_tune.run import build, preflight
        from fine_tune.run import folder as run
        from fine_tune.run.begin import Built, begin, finish
        from fine_tune.run.optim import Updater
        from fine_tune.tasks.table import TASKS
        from fine_tune.train.fine_tune import fine_tune

        device = build.resolve_devices(cfg.device_id).student
        precision.precision = resolve_precision(precision.precision, precision.amp, device)
        run.set_up_process(cfg.seed, device)
        run.new_run_dir(cfg)
        task = TASKS[cfg.task]
        teacher.num_class = build.class_count(task, teacher.num_class)
        model, tokenizer = build.build_teacher(cfg.model, teacher.ptrain_ver, task, teacher.dropout)
        load.check_length(model, teacher.max_seq_len)
        place(model, device, precision, speed)
        rows = load_labelled(task, cfg.dataset, tokenizer, teacher.max_seq_len)
        steps.total_step, steps.warmup_step = build.resolve_duration(steps, epochs, len(rows), cfg.batch_size)
        if cfg.preflight:
            preflight.check_schedule(steps)
            preflight.check_tokens(tokenizer, model.encoder.config)
            preflight.check_rows(rows, tokenizer)
        updater = Updater({"": build.part_of(model, device, optim, steps, speed)}, precision.precision == "fp16")
        values = flags.values() | {"method": "fine_tune"}
        log = begin(flags, values, parser.argv, Built(model, tokenizer, [model], updater, rows, {"teacher": device}))
        batches = build.updates_of(cfg, rows, log.done)

    origin = {"encoder": f"copied from {teacher.ptrain_ver}", "classifier": "random"}
    run.print_table("Fine-tuning", values | {"rows": len(rows), "device": device} | origin)
    with log:
        fine_tune(wrap(model), updater, batches, device, log)
    finish(log)


if __name__ == "__main__":
    main()
