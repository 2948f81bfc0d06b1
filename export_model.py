#!/usr/bin/env python3
"""Export a run: a HuggingFace folder with a model card; ONNX and int8 for CPUs without PyTorch; a page to try it on.

    python export_model.py --experiment LAD --task sst2 --int8

Every form is compared with the checkpoint and scored on a labelled split. A form in float32 whose logits differ by
more than 1e-4, or an int8 form that loses more than `--max_loss`, is refused, and nothing is left. ONNX and int8 need:
pip install -r requirements-export.txt. `predict.py --folder`, transformers and its own `lean.py` read the folder.
`--page` needs the teacher's export, too, and two packages of npm, which it fetches.
"""

from collections.abc import Sequence
from pathlib import Path

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import TASK
from fine_tune.tasks.named import task_named


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--experiment", required=True, help="experiment name of the run")
    parser.add_argument("--task", required=True, help=TASK)
    parser.add_argument("--model", help="architecture of the run (default: found by its folder's name)")
    parser.add_argument("--ckpt", type=int, help="checkpoint to export (default: the last)")
    parser.add_argument("--dataset", help="labelled split to score on (default: the task's dev split)")
    parser.add_argument("--onnx", action="store_true", help="write onnx/model.onnx, too")
    parser.add_argument("--int8", action="store_true", help="write onnx/model_int8.onnx, too, and model.onnx")
    parser.add_argument(
        "--page", action="store_true", help="write page/, too: this model and its teacher side by side in a browser"
    )
    parser.add_argument("--max_loss", type=float, help="refuse an int8 form that loses more (default: 0.01)")
    parser.add_argument("--out", type=Path, help="folder to write (default: export/ in the run's folder)")
    parser.add_argument("--overwrite", action="store_true", help="replace an older export")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the run, write its forms, tell what was measured."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        task = task_named(args.task, experiment=args.experiment)
        if args.max_loss is not None and not args.int8:
            raise ValueError("--max_loss is what --int8 may lose; give that, too, or leave it out")
        max_loss = 0.01 if args.max_loss is None else args.max_loss
        if not 0 <= max_loss <= 1:
            raise ValueError(f"--max_loss {args.max_loss}: a share of the score is needed, 0 to 1")
        if args.page and not (args.onnx or args.int8):
            raise ValueError("--page shows exported networks; give --int8, or --onnx")
        forms = [form for form in ("onnx", "int8") if getattr(args, form)]

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.export.card import measured
        from fine_tune.export.folder import EXPORT, export, teacher_export
        from fine_tune.export.page import check_page, write_page
        from fine_tune.model.load import load_run
        from fine_tune.path import architecture_of
        from fine_tune.run.process import set_up_process

        set_up_process()
        model = args.model or architecture_of(args.experiment, task.name)
        loaded = load_run(args.experiment, model, task, args.ckpt, None, "--ckpt")
        folder = args.out or loaded.folder / EXPORT
        beside = []
        if args.page:  # what can fail does so before anything is written
            beside = teacher_export(loaded, task)
            check_page(loaded)
        about = export(loaded, task, folder, forms, args.dataset or task.dev[0], max_loss, args.overwrite)
        print(f"\n{measured(about)}\n\nwrote: {folder}")
        if args.page:
            names = [*beside, (args.experiment, folder)]
            write_page(folder / "page", names, " and ".join(name for name, _ in names))
            print(f"wrote: {folder / 'page'}; look at it: python -m http.server --directory {folder / 'page'}")


if __name__ == "__main__":
    main()
