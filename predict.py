#!/usr/bin/env python3
"""Predict labels and probabilities of texts: by a run, a HuggingFace folder, or an export as ONNX or int8.

    python predict.py --experiment LAD --task sst2 --input reviews.csv --output labels.tsv
    python predict.py --folder <export> --format int8 --input - < lines.txt

`--input` is a .csv, .tsv or .jsonl file with named columns, a .txt file with a text a line (a tab between the two texts
of a pair), or - for such lines on standard input; a pipe or a terminal is answered line by line. The answers are in the
order of the rows: label and probabilities, of several labels every probability by itself, of a regression the number.
With `--folder` and `--format onnx` or `int8` neither PyTorch nor transformers is needed. int8 reads one text at a time,
as its logits would depend on the others of a batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import DEVICE, TASK
from fine_tune.tasks.named import task_named

if TYPE_CHECKING:
    import argparse

    from fine_tune.export.lean import Model


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--experiment", help="experiment name of the run to ask")
    parser.add_argument("--task", help=f"with --experiment: {TASK}")
    parser.add_argument("--model", help="with --experiment: its architecture (default: found by its folder's name)")
    parser.add_argument("--ckpt", type=int, help="with --experiment: checkpoint to ask (default: the last)")
    parser.add_argument(
        "--folder", type=Path, help="folder to ask instead: an export, or any classifier of transformers"
    )
    parser.add_argument(
        "--format", default="torch", choices=("torch", "onnx", "int8"), help="form of the model (default: torch)"
    )
    parser.add_argument("--input", required=True, help="file of texts, or - for standard input")
    parser.add_argument("--text", help="column(s) with the texts, one or two with a comma (default: the task's)")
    parser.add_argument(
        "--output", type=Path, help="file to write, .tsv or .jsonl (default: a table on standard output)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file to write")
    parser.add_argument("--threads", type=int, default=0, help="threads of the CPU, 0 for all (default: 0)")
    parser.add_argument("--device_id", type=int, help=DEVICE)
    return parser


def check(args: "argparse.Namespace") -> None:
    """Refuse flags that contradict each other, or would have no effect.

    Raises:
        ValueError: They do.
        FileExistsError: The file to write is there.
    """
    if (args.experiment is None) == (args.folder is None):
        raise ValueError("give one of --experiment, for a run, and --folder, for an exported model")
    given = [f"--{name}" for name in ("task", "model", "ckpt") if getattr(args, name) is not None]
    if args.folder and given:
        raise ValueError(f"{given[0]} is of a run; a --folder says itself what it is")
    if args.experiment and not args.task:
        raise ValueError("--experiment needs --task, the task of the run")
    if args.format != "torch" and args.device_id is not None:
        raise ValueError(f"--device_id is for --format torch; {args.format} runs on the CPU")
    if args.threads < 0:
        raise ValueError(f"--threads {args.threads}: 0 or more are needed")
    if args.output and args.output.suffix not in (".tsv", ".jsonl"):
        raise ValueError(f"--output {args.output}: its name must end with .tsv or .jsonl")
    if args.overwrite and not args.output:
        raise ValueError("--overwrite replaces the --output file; give one, or leave it out")
    if args.output and args.output.exists() and not args.overwrite:
        raise FileExistsError(f"--output {args.output} exists; pass --overwrite to replace it")
    if args.output and args.output.exists() and Path(args.input).exists() and args.output.samefile(args.input):
        raise ValueError(f"--output {args.output} is the --input; it is left alone")


def open_model(args: "argparse.Namespace") -> "Model":
    """Open the model in its form."""
    if args.folder and args.format != "torch":
        from fine_tune.export import lean

        if not args.folder.is_dir():
            raise FileNotFoundError(f"--folder {args.folder}: is not there")
        return lean.open_folder(args.folder, args.format, args.threads)

    import torch

    from fine_tune.export import lean
    from fine_tune.export.folder import exported
    from fine_tune.export.live import folder_model, run_model
    from fine_tune.hardware.device import resolve_device
    from fine_tune.model.load import load_run
    from fine_tune.path import architecture_of
    from fine_tune.run.process import set_up_process

    set_up_process()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.folder:
        return folder_model(args.folder, resolve_device(args.device_id))
    task = task_named(args.task, experiment=args.experiment)
    model = args.model or architecture_of(args.experiment, task.name)
    loaded = load_run(args.experiment, model, task, args.ckpt, None, "--ckpt")
    if args.format == "torch":
        return run_model(loaded, task, resolve_device(args.device_id))
    return lean.open_folder(exported(loaded, args.format, task), args.format, args.threads)


def columns_of(args: "argparse.Namespace", model: "Model") -> tuple[str, ...]:
    """Name the columns to read.

    Raises:
        ValueError: More or fewer than the model reads.
    """
    from fine_tune.export.texts import STDIN

    own, given = model.about.columns, tuple(args.text.split(",")) if args.text else ()
    if given and len(given) != (len(own) or min(len(given), 2)):
        raise ValueError(f"--text {args.text}: the model reads {len(own) or '1 or 2'} texts, not {len(given)}")
    if own and given and (args.input == STDIN or Path(args.input).suffix == ".txt"):
        raise ValueError(f"--text {args.text}: lines of text have no named columns; leave it out")
    return given or own or ("text",)


def main(argv: Sequence[str] | None = None) -> None:
    """Open the model, answer every text."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        check(args)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.export.texts import answered, open_input, progress, read_texts, send, window_of

        with open_input(args.input) as handle:
            model = open_model(args)
            columns = columns_of(args, model)
            with progress(args.input) as told:
                texts = read_texts(handle, args.input, columns, told)
                answers = answered(model, texts, window_of(handle))
                send(answers, model.about, args.output)


if __name__ == "__main__":
    main()
