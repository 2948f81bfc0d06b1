#!/usr/bin/env python3
"""Score every checkpoint of a run, teacher or student, on a labelled split.

    python run_fine_tune_eval.py --experiment LAD --task sst2 --dataset dev

Writes `eval_<split>.json` (all scores, the best by each) and `prediction_<split>-<step>.tsv` into the run's folder, and
TensorBoard scalars under `<task>/<split>/`. With `--do_predict` the best checkpoint's test predictions too.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import EvalConfig, PrecisionConfig
from fine_tune.tasks.named import task_named


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    parser = Parser(__doc__, (EvalConfig, PrecisionConfig))
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
        flags = parser.flags(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from tqdm import tqdm

        from fine_tune.data.tokens import load_split
        from fine_tune.files import write_json
        from fine_tune.hardware.rank import is_main
        from fine_tune.model.checkpoint import fill, keep_checkpoints, list_checkpoints, load_state
        from fine_tune.model.load import load_run
        from fine_tune.model.placement import place
        from fine_tune.path import log_dir
        from fine_tune.run.predictions import write_predictions
        from fine_tune.run.preflight import check_run, way_out
        from fine_tune.run.process import prepare_reading
        from fine_tune.run.tensorboard import write_scores
        from fine_tune.scores.metrics import best_checkpoints, score
        from fine_tune.scores.predict import predict, save_prediction

        flags, device = prepare_reading(flags)
        cfg = flags[EvalConfig]
        task = task_named(cfg.task)
        if not task.is_labelled(cfg.dataset):
            why = (
                "this split has no labels"
                if task.files
                else f"GLUE keeps the labels of {task.name}'s test splits to itself"
            )
            raise ValueError(f"--dataset {cfg.dataset}: {why}")
        if args.keep_best not in (None, "loss", *task.metrics):
            raise ValueError(f"--keep_best {args.keep_best}: {task.name} has loss, {', '.join(task.metrics)}")
        first = load_run(cfg.experiment, cfg.architecture, task, None, cfg.ptrain_ver, "--ckpt")
        if cfg.preflight:
            with way_out():
                check_run(first, task)
        selected = [step for step in list_checkpoints(first.folder) if step >= args.ckpt]
        if not selected:
            raise ValueError(f"--ckpt {args.ckpt}: no checkpoint from this step on; the last one is {first.step}")
        rows = load_split(task, cfg.dataset, first.tokenizer, first.max_seq_len)
        place(first.model, device, flags)
        scores = {}
        summary = first.folder / f"eval_{cfg.dataset}.json"
        for step in tqdm(selected, unit="checkpoint", disable=len(selected) == 1 or not is_main()):
            file = first.folder / f"model-{step}.pt"
            fill(first.model, load_state(file), file)
            logits = predict(first.model, rows, cfg.batch_size, device)
            scores[step] = score(rows, logits)
            save_prediction(first.folder / f"prediction_{cfg.dataset}-{step}.tsv", rows, logits)
            # After every checkpoint: an interrupted evaluation keeps what it has.
            best = {name: best_checkpoints(scores, name) for name in ("loss", *task.metrics)}
            write_json(summary, {"rows": len(rows), "checkpoints": scores, "best": best})
        if is_main():
            write_scores(log_dir(cfg.experiment, cfg.architecture, cfg.task), summary)
        for name, ranked in best.items():
            print(f"best {name:<9}" + "".join(f"  {value:.4f} @ {step}" for step, value in ranked))
        print(f"{len(rows)} rows of {task.name} {cfg.dataset}; summary: {summary}")
        if args.do_predict:
            for split, _ in task.submission:
                write_predictions(flags, split, device, best[task.metrics[0]][0][0])
        if args.keep_best:
            keep_checkpoints(first.folder, selected, best[args.keep_best][0][0])


if __name__ == "__main__":
    main()
