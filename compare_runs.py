#!/usr/bin/env python3
"""Compare runs of a task, and their exported forms, in one table: score, size, time, speed-up over the first.

    python compare_runs.py --task sst2 --experiment teacher LAD no_teacher --dataset dev
    python compare_runs.py --task sst2 --experiment teacher LAD --format torch,onnx,int8 --threads 1 --out report

Every run is scored at its last checkpoint, so nothing is selected on the split, and in its own tokens, cut at its own
length. Time is the model's alone, one sentence at a time; contenders take turns in blocks of 20 sentences, and the
median is printed. `agrees` is the share of rows with the first row's class (of a regression, the correlation).

With `--out`, all that was measured is in report.md and report.csv there (parameters without embeddings, operations,
95th percentiles, batches of 32), and report.png shows score against time. `export_model.py` makes the forms.
"""

from collections.abc import Sequence
from pathlib import Path

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import DEVICE, TASK
from fine_tune.tasks.named import task_named

FORMATS = ("torch", "onnx", "int8")


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--experiment", nargs="+", required=True, help="names of the runs; the first is the reference")
    parser.add_argument("--task", required=True, help=TASK)
    parser.add_argument("--model", help="architecture, where a name has several (default: by the folder)")
    parser.add_argument("--dataset", help="split to score (default: the task's dev split)")
    parser.add_argument("--format", default="torch", help="forms to compare, some of torch,onnx,int8 (default: torch)")
    parser.add_argument("--batch_size", type=int, default=128, help="rows per batch when torch scores (default: 128)")
    parser.add_argument("--device_id", type=int, help=DEVICE)
    parser.add_argument("--threads", type=int, help="threads of the CPU (default: what torch takes)")
    parser.add_argument("--sentences", type=int, default=200, help="sentences to time (default: 200)")
    parser.add_argument("--out", type=Path, help="folder for report.md, report.csv and report.png")
    parser.add_argument("--overwrite", action="store_true", help="replace an older report there")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Score, time, print, draw."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        task = task_named(args.task, experiment=args.experiment[0])
        if args.overwrite and not args.out:
            raise ValueError("--overwrite replaces a report in --out; give that, or leave it out")
        dataset, forms = args.dataset or task.dev[0], args.format.split(",")
        if len(set(forms)) < len(forms) or not set(forms) <= set(FORMATS):
            raise ValueError(f"--format {args.format}: some of {', '.join(FORMATS)} are needed, with commas")
        for name in ("batch_size", "threads", "sentences"):
            if getattr(args, name) is not None and getattr(args, name) < 1:
                raise ValueError(f"--{name} {getattr(args, name)}: 1 or more are needed")
        files = [args.out / f"report.{kind}" for kind in ("md", "csv", "png")] if args.out else []
        if there := [str(file) for file in files if file.exists() and not args.overwrite]:
            raise FileExistsError(f"--out: {there[0]} exists; pass --overwrite to replace it")

        # Heavy imports come after the flags are read: `--help` answers at once.
        import pandas as pd
        import torch

        from fine_tune.export.measure import contenders_of, laid_out, measured, narrow, wide
        from fine_tune.files import write_csv, write_text, write_whole
        from fine_tune.hardware.device import resolve_device
        from fine_tune.model.load import load_run
        from fine_tune.path import architecture_of, run_dir
        from fine_tune.plot.speed import speed
        from fine_tune.run.process import set_up_process

        set_up_process()
        if args.threads:
            torch.set_num_threads(args.threads)
        device = resolve_device(args.device_id)
        contenders = []
        for name in args.experiment:
            given = args.model and run_dir(name, args.model, task.name).is_dir()
            model = args.model if given else architecture_of(name, task.name)
            loaded = load_run(name, model, task, None, None, "last checkpoint")
            contenders += contenders_of(name, loaded, task, dataset, forms, args.batch_size, device)
            if not contenders:
                raise ValueError(f"--format {args.format}: {name}, the reference, has no such form; see above")
        table = measured(contenders, args.sentences, batches=bool(files))
        rows = len(contenders[0].rows)
        title = f"{task.name} {dataset}, {rows} rows, last checkpoints, {device}, {torch.get_num_threads()} threads"
        print(f"\n{title}\n\n" + "\n".join(laid_out(narrow(table, task.metrics))))
        if files:
            args.out.mkdir(parents=True, exist_ok=True)
            write_text(files[0], "\n".join([f"# {title}", "", *laid_out(wide(table, task.metrics))]) + "\n")
            write_csv(files[1], pd.DataFrame(table))
            figure, _ = speed(table, task.metrics[0])
            write_whole(files[2], lambda part: figure.savefig(part, format="png"))
            print("\nwrote: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    main()
