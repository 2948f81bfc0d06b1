#!/usr/bin/env python3
"""Score every checkpoint of a run, teacher or student, on a labelled split.

    python run_fine_tune_eval.py --experiment LAD --task sst2 --dataset dev

Writes `eval_<split>.json` (all scores, the best by each) and `prediction_<split>-<step>.tsv` into the run's folder, and
TensorBoard scalars under `<split>/`. With `--do_predict` the best checkpoint's test predictions too.
"""

import dataclasses
from collections.abc import Sequence

from fine_tune.flags.option import Parser, add_flags, from_args, usage_errors
from fine_tune.flags.shared import EvalConfig, PrecisionConfig, SpeedConfig
from generate_test_prediction import write_predictions


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    parser = Parser(__doc__)
    add_flags(parser, EvalConfig)
    add_flags(parser, PrecisionConfig)
    parser.add_argument("--ckpt", type=int, default=0, help="score checkpoints from this step on (default: all)")
    parser.add_argument(
        "--keep_best",
        metavar="METRIC",
        help="delete the checkpoints scored, but the best (by loss, or a metric of the "
        "task such as accuracy) and the last",
    )
    parser.add_argument("--do_predict", action="store_true", help="write test predictions of the best checkpoint")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Score, rank, report."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        cfg, precision = from_args(EvalConfig, args), from_args(PrecisionConfig, args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from tqdm import tqdm

        from fine_tune.data.tokens import load_split
        from fine_tune.hardware.precision import resolve_precision
        from fine_tune.hardware.rank import is_main
        from fine_tune.model import load
        from fine_tune.model.checkpoint import fill, keep_checkpoints, list_checkpoints, load_state
        from fine_tune.model.placement import place
        from fine_tune.path import log_dir, write_json
        from fine_tune.run import build, preflight
        from fine_tune.run import folder as run
        from fine_tune.run.history import read_scores
        from fine_tune.run.session import write_curves
        from fine_tune.scores import predict as evaluate
        from fine_tune.tasks.table import TASKS

        task, device = TASKS[cfg.task], build.resolve_devices(cfg.device_id).student
        precision.precision = resolve_precision(precision.precision, precision.amp, device)
        run.set_up_process(device=device)
        if not task.is_labelled(cfg.dataset):
            raise ValueError(f"--dataset {cfg.dataset}: GLUE keeps the labels of {task.name}'s test splits to itself")
        if args.keep_best not in (None, "loss", *task.metrics):
            raise ValueError(f"--keep_best {args.keep_best}: {task.name} has loss, {', '.join(task.metrics)}")
        first = load.load_run(cfg.experiment, cfg.model, task, None, cfg.ptrain_ver, "--ckpt")
        if cfg.preflight:
            preflight.check_run(first, task)
        selected = [step for step in list_checkpoints(first.folder) if step >= args.ckpt]
        if not selected:
            raise ValueError(f"--ckpt {args.ckpt}: no checkpoint from this step on; the last one is {first.step}")
        rows = load_split(task, cfg.dataset, first.tokenizer, first.config["max_seq_len"])

        place(first.model, device, precision, SpeedConfig())
        scores = {}
        summary = first.folder / f"eval_{cfg.dataset}.json"
        for step in tqdm(selected, unit="checkpoint", disable=len(selected) == 1 or not is_main()):
            file = first.folder / f"model-{step}.pt"
            fill(first.model, load_state(file), file)
            logits = evaluate.predict(first.model, rows, cfg.batch_size, device)
            scores[step] = evaluate.score(rows, logits)
            evaluate.save_prediction(first.folder / f"prediction_{cfg.dataset}-{step}.tsv", rows, logits)
            # After every checkpoint: an interrupted evaluation keeps what it has.
            best = {name: evaluate.best_checkpoints(scores, name) for name in ("loss", *task.metrics)}
            write_json(summary, {"rows": len(rows), "checkpoints": scores, "best": best})
        if is_main():
            write_curves(log_dir(cfg.experiment, cfg.model, cfg.task), cfg.dataset, read_scores(summary))

        for name, ranked in best.items():
            print(f"best {name:<9}" + "".join(f"  {value:.4f} @ {step}" for step, value in ranked))
        print(f"{len(rows)} rows of {task.name} {cfg.dataset}; summary: {summary}")
        if args.do_predict:
            for split, _ in task.submission:
                write_predictions(
                    dataclasses.replace(cfg, dataset=split), device, precision, best[task.metrics[0]][0][0]
                )
        if args.keep_best:
            keep_checkpoints(first.folder, selected, best[args.keep_best][0][0])


if __name__ == "__main__":
    main()
