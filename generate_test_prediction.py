#!/usr/bin/env python3
"""Write the predictions of one checkpoint on a test split, in the form that the benchmark's server takes.

    python generate_test_prediction.py --experiment LAD --task sst2 --dataset test --ckpt 6000

Writes GLUE's file (`SST-2.tsv`, ..) and `prediction_<split>-<step>.tsv` with the logits into the run's folder.
"""

import argparse
from collections.abc import Sequence

from fine_tune.config import EvalConfig
from fine_tune.flag import add_flags, from_args, usage_errors


def build_parser() -> argparse.ArgumentParser:
    """Name the flags that this script takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_flags(parser, EvalConfig)
    parser.set_defaults(dataset="test")
    parser.add_argument("--ckpt", type=int, help="checkpoint (default: the best that was scored, else the last)")
    return parser


def best_scored(folder, task) -> int | None:
    """Find the best checkpoint in the score files that `run_fine_tune_eval.py` left; None if there are none."""
    import json

    for split in task.dev:
        if (file := folder / f"eval_{split}.json").is_file():
            return json.loads(file.read_text(encoding="utf-8"))["best"][task.metrics[0]][0][0]
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Predict and write."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        cfg = from_args(EvalConfig, args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune import build, evaluate
        from fine_tune.data import load_split
        from fine_tune.path import run_dir
        from fine_tune.task import TASKS

        build.quiet()
        task, device = TASKS[cfg.task], build.resolve_device(cfg.device_id)
        files = dict(task.submission)
        if cfg.dataset not in files:
            raise ValueError(f"--dataset {cfg.dataset}: the test splits of {task.name} are {', '.join(files)}")
        step = args.ckpt
        if step is None:
            step = best_scored(run_dir(cfg.experiment, cfg.model, cfg.task), task)
        run = build.load_run(cfg.experiment, cfg.model, task, step, cfg.ptrain_ver, "--ckpt")
        build.set_amp(run.model.to(device), device, cfg.amp)
        rows = load_split(task, cfg.dataset, run.tokenizer, run.config["max_seq_len"])
        logits = evaluate.predict(run.model, rows, cfg.batch_size, device)
        evaluate.save_submission(run.folder / files[cfg.dataset], rows, logits)
        evaluate.save_prediction(run.folder / f"prediction_{cfg.dataset}-{run.step}.tsv", rows, logits)
        print(f"{len(rows)} predictions of checkpoint {run.step}: {run.folder / files[cfg.dataset]}")


if __name__ == "__main__":
    main()
