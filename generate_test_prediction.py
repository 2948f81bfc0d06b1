#!/usr/bin/env python3
"""Write the predictions of one checkpoint on a test split, in the form that the benchmark's server takes.

    python generate_test_prediction.py --experiment LAD --task sst2 --dataset test --ckpt 6000

Writes GLUE's file (`SST-2.tsv`, ..) and `prediction_<split>-<step>.tsv` with the logits into the run's folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fine_tune.flags.option import Parser, add_flags, from_args, usage_errors
from fine_tune.flags.shared import EvalConfig, PrecisionConfig, SpeedConfig
from fine_tune.run.history import read_scores
from fine_tune.tasks.table import TASKS, Task

if TYPE_CHECKING:
    import torch


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    parser = Parser(__doc__)
    add_flags(parser, EvalConfig)
    add_flags(parser, PrecisionConfig)
    parser.set_defaults(dataset="test")
    parser.add_argument("--ckpt", type=int, help="checkpoint (default: the best that was scored, else the last)")
    return parser


def best_scored(folder: Path, task: Task) -> int | None:
    """Find the best checkpoint in the score files that `run_fine_tune_eval.py` left; None if there are none."""
    from fine_tune.model.checkpoint import list_checkpoints

    for split in task.dev:
        if (file := folder / f"eval_{split}.json").is_file():
            curve, there = read_scores(file).get(f"{split}/{task.metrics[0]}", {}), list_checkpoints(folder)
            return min(curve.keys() & there, key=lambda step: (-curve[step], step), default=None)
    return None


def write_predictions(cfg: EvalConfig, device: "torch.device", precision: PrecisionConfig, step: int | None) -> None:
    """Predict `cfg.dataset` with a checkpoint (None: the best scored, else the last) and write both files."""
    from fine_tune.data.tokens import load_split
    from fine_tune.model import load
    from fine_tune.model.placement import place
    from fine_tune.path import run_dir
    from fine_tune.run import preflight
    from fine_tune.scores import predict as evaluate

    task = TASKS[cfg.task]
    files = dict(task.submission)
    if cfg.dataset not in files:
        raise ValueError(f"--dataset {cfg.dataset}: the test splits of {task.name} are {', '.join(files)}")
    if step is None:
        step = best_scored(run_dir(cfg.experiment, cfg.model, cfg.task), task)
    loaded = load.load_run(cfg.experiment, cfg.model, task, step, cfg.ptrain_ver, "--ckpt")
    if cfg.preflight:
        preflight.check_run(loaded, task)
    place(loaded.model, device, precision, SpeedConfig())
    rows = load_split(task, cfg.dataset, loaded.tokenizer, loaded.config["max_seq_len"])
    logits = evaluate.predict(loaded.model, rows, cfg.batch_size, device)
    evaluate.save_submission(loaded.folder / files[cfg.dataset], rows, logits)
    evaluate.save_prediction(loaded.folder / f"prediction_{cfg.dataset}-{loaded.step}.tsv", rows, logits)
    print(f"{len(rows)} predictions of checkpoint {loaded.step}: {loaded.folder / files[cfg.dataset]}")


def main(argv: Sequence[str] | None = None) -> None:
    """Predict and write."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        cfg, precision = from_args(EvalConfig, args), from_args(PrecisionConfig, args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.hardware.precision import resolve_precision
        from fine_tune.run import build
        from fine_tune.run import folder as run

        device = build.resolve_devices(cfg.device_id).student
        precision.precision = resolve_precision(precision.precision, precision.amp, device)
        run.set_up_process(device=device)
        write_predictions(cfg, device, precision, args.ckpt)


if __name__ == "__main__":
    main()
