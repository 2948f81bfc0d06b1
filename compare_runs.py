#!/usr/bin/env python3
"""Compare runs of a task in one table: score, parameters, size, time per sentence, speed-up over the first.

    python compare_runs.py --task sst2 --experiment teacher LAD no_teacher --dataset dev

Every run is scored at its last checkpoint, so nothing is selected on the split, and in its own tokens, cut at its own
length. Time is the model's alone, one sentence at a time, in float32; the runs take turns sentence by sentence, and the
median is printed.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import DEVICE, TASK
from fine_tune.tasks.named import task_named


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--experiment", nargs="+", required=True, help="names of the runs; the first is the reference")
    parser.add_argument("--task", required=True, help=TASK)
    parser.add_argument("--model", help="architecture of the runs (default: found by their folders' names)")
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

        from fine_tune.data.tokens import load_split
        from fine_tune.hardware.device import resolve_device
        from fine_tune.model.load import load_run
        from fine_tune.path import architecture_of
        from fine_tune.run.process import set_up_process
        from fine_tune.scores.efficiency import milliseconds_per_sentence, parameters
        from fine_tune.scores.metrics import score
        from fine_tune.scores.predict import predict

        set_up_process()
        device = resolve_device(args.device_id)
        runs = [
            load_run(name, args.model or architecture_of(name, task.name), task, None, None, "last checkpoint")
            for name in args.experiment
        ]
        # Every run reads the rows in its own tokens, cut at its own length: no score depends on the other runs.
        splits = [load_split(task, args.dataset, run.tokenizer, run.max_seq_len) for run in runs]
        models = [run.model.to(device) for run in runs]
        times = milliseconds_per_sentence(models, splits, args.sentences, device)
        table = []
        for name, run, rows, ms in zip(args.experiment, runs, splits, times, strict=True):
            scores = score(rows, predict(run.model, rows, args.batch_size, device))
            table.append(
                {
                    "run": name,
                    **{metric: f"{scores[metric]:.4f}" for metric in task.metrics},
                    "parameters": f"{parameters(run.model) / 1e6:.1f} M",
                    "size": f"{run.checkpoint.stat().st_size / 1e6:.0f} MB",
                    "ms/sentence": f"{ms:.2f}",
                    "speed-up": f"{times[0] / ms:.2f}x",
                }
            )
    print(f"\n{task.name} {args.dataset}, {len(splits[0])} rows, last checkpoints, {device}\n")
    print(pd.DataFrame(table).to_string(index=False))


if __name__ == "__main__":
    main()
