#!/usr/bin/env python3
"""Compare runs of a task in one table: score, parameters, size, time per sentence, speed-up over the first.

    python compare_runs.py --task sst2 --experiment teacher LAD no_teacher --dataset dev

Every run is scored at its last checkpoint, so nothing is selected on the split. Time is the model's alone, one sentence
at a time, in float32; the runs take turns sentence by sentence, and the median is printed.
"""

from collections.abc import Sequence

from fine_tune.flags.option import Parser, usage_errors
from fine_tune.tasks.table import TASKS, task_named


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--experiment", nargs="+", required=True, help="names of the runs; the first is the reference")
    parser.add_argument("--task", required=True, help=f"task of the runs: {', '.join(TASKS)}")
    parser.add_argument("--model", default="bert", help="architecture (default: bert)")
    parser.add_argument("--dataset", default="dev", help="split to score (default: dev)")
    parser.add_argument("--batch_size", type=int, default=128, help="sentences per batch when scoring (default: 128)")
    parser.add_argument("--device_id", type=int, help="-1 for the CPU (default: a GPU if there is one)")
    parser.add_argument("--sentences", type=int, default=200, help="sentences to time (default: 200)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Score, time, print."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        task = task_named(args.task)

        from fine_tune.data.tokens import fingerprint, load_split
        from fine_tune.model import load
        from fine_tune.run import build
        from fine_tune.run import folder as run
        from fine_tune.scores import predict as evaluate

        run.set_up_process()
        device = build.resolve_device(args.device_id)
        loaded_runs = [load.load_run(name, args.model, task, None, None, "last checkpoint") for name in args.experiment]
        first, *others = loaded_runs
        for name, other in zip(args.experiment[1:], others, strict=True):
            if fingerprint(other.tokenizer) != fingerprint(first.tokenizer):
                raise ValueError(f"--experiment {name} reads other tokens than {args.experiment[0]}")
        rows = load_split(task, args.dataset, first.tokenizer, min(each.config["max_seq_len"] for each in loaded_runs))
        header = ["run", *task.metrics, "parameters", "size", "ms/sentence", "speed-up"]
        models = [loaded.model.to(device) for loaded in loaded_runs]
        times = evaluate.milliseconds_per_sentence(models, rows, args.sentences, device)
        table = []
        for name, loaded, model, ms in zip(args.experiment, loaded_runs, models, times, strict=True):
            scores = evaluate.score(rows, evaluate.predict(model, rows, args.batch_size, device))
            size = (loaded.folder / f"model-{loaded.step}.pt").stat().st_size / 1e6
            millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            values = [f"{scores[metric]:.4f}" for metric in task.metrics]
            table.append([name, *values, f"{millions:.1f} M", f"{size:.0f} MB", f"{ms:.2f}", f"{times[0] / ms:.2f}x"])

    widths = [max(len(row[column]) for row in [header, *table]) for column in range(len(header))]
    print(f"\n{task.name} {args.dataset}, {len(rows)} rows, last checkpoints, {device}\n")
    for row in [header, ["-" * width for width in widths], *table]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
