#!/usr/bin/env python3
"""Compare runs of a task in one table: score, parameters, size, time per sentence, speed-up over the first.

    python compare_runs.py --task sst2 --experiment teacher LAD no_teacher --dataset dev

Every run is scored at its last checkpoint, so nothing is selected on the split. Time is the model's alone, one sentence
at a time, in float32; the runs take turns sentence by sentence, and the median is printed.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import DEVICE, TASK
from fine_tune.tasks.table import task_named


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--experiment", nargs="+", required=True, help="names of the runs; the first is the reference")
    parser.add_argument("--task", required=True, help=TASK)
    parser.add_argument("--model", default="bert", help="architecture of the runs (default: bert)")
    parser.add_argument("--dataset", default="dev", help="split to score (default: dev)")
    parser.add_argument("--batch_size", type=int, default=128, help="rows per batch when scoring (default: 128)")
    parser.add_argument("--device_id", type=int, help=DEVICE)
    parser.add_argument("--sentences", type=int, default=200, help="sentences to time (default: 200)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Score, time, print."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        task = task_named(args.task)

        # Heavy imports come after the flags are read: `--help` answers at once.
        import pandas as pd

        from fine_tune.data.tokens import fingerprint, load_split
        from fine_tune.hardware.device import resolve_device
        from fine_tune.model.load import load_run
        from fine_tune.run.process import set_up_process
        from fine_tune.scores.efficiency import milliseconds_per_sentence, parameters
        from fine_tune.scores.metrics import score
        from fine_tune.scores.predict import predict

        set_up_process()
        device = resolve_device(args.device_id)
        runs = [load_run(name, args.model, task, None, None, "last checkpoint") for name in args.experiment]
        first, *others = runs
        for name, other in zip(args.experiment[1:], others, strict=True):
            if fingerprint(other.tokenizer) != fingerprint(first.tokenizer):
                raise ValueError(f"--experiment {name} reads other tokens than {args.experiment[0]}")
        rows = load_split(task, args.dataset, first.tokenizer, min(each.max_seq_len for each in runs))
        models = [run.model.to(device) for run in runs]
        times = milliseconds_per_sentence(models, rows, args.sentences, device)
        table = []
        for name, run, model, ms in zip(args.experiment, runs, models, times, strict=True):
            scores = score(rows, predict(model, rows, args.batch_size, device))
            table.append(
                {
                    "run": name,
                    **{metric: f"{scores[metric]:.4f}" for metric in task.metrics},
                    "parameters": f"{parameters(model) / 1e6:.1f} M",
                    "size": f"{run.checkpoint.stat().st_size / 1e6:.0f} MB",
                    "ms/sentence": f"{ms:.2f}",
                    "speed-up": f"{times[0] / ms:.2f}x",
                }
            )
    print(f"\n{task.name} {args.dataset}, {len(rows)} rows, last checkpoints, {device}\n")
    print(pd.DataFrame(table).to_string(index=False))


if __name__ == "__main__":
    main()
