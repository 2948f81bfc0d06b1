#!/usr/bin/env python3
"""Show where checkpoints put the rows of a split: [CLS] of the last layer, coloured by label, side by side.

    python plot_CLS_embedding.py --experiment SCL --task mnli --dataset dev_matched --ckpt 24544 [--beside hidden:24544]

Writes `cls_<split>.png`, with a CSV beside it, into the run's folder, and every row's vector with its label's name for
TensorBoard's projector: `tensorboard --logdir data/fine_tune_experiment/log`. What is drawn:
`fine_tune/plot/embedding.py`.
"""

from collections.abc import Sequence

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import EvalConfig
from fine_tune.tasks.named import task_named


def build_parser() -> Parser:
    """Name the flags that this script takes."""
    parser = Parser(__doc__, (EvalConfig,))
    parser.add_argument("--ckpt", help="checkpoints to show, such as 2000,24544 (default: the last)")
    parser.add_argument(
        "--beside", action="append", default=[], metavar="EXPERIMENT[:CKPT]", help="show this run's checkpoint before "
        "them (default: its last); may be given again",
    )  # fmt: skip
    parser.add_argument("--pooled", action="store_true", help="show the pooled output, not the last state of [CLS]")
    parser.add_argument("--sample", type=int, default=1000, help="rows in the picture at most (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample and of t-SNE (default: 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the checkpoints, project, draw."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)
        cfg = flags[EvalConfig]
        task = task_named(cfg.task)
        if task.kind != "single" or not task.is_labelled(cfg.dataset):
            raise ValueError(f"--task {task.name} --dataset {cfg.dataset}: has no classes to colour the rows by")
        if args.sample < 3:
            raise ValueError(f"--sample must be >= 3, got {args.sample}")

        # Heavy imports come after the flags are read: `--help` answers at once.
        import numpy as np
        import pandas as pd

        from fine_tune.data.tokens import load_labelled
        from fine_tune.files import write_csv, write_whole
        from fine_tune.hardware.device import home_device
        from fine_tune.model.load import load_run
        from fine_tune.model.placement import place
        from fine_tune.path import log_dir
        from fine_tune.plot.embedding import Cloud, draw_clouds, write_projector
        from fine_tune.run.preflight import check_run, way_out
        from fine_tune.run.process import set_up_process
        from fine_tune.scores.predict import encode

        device = home_device(cfg.device_id)
        set_up_process(device=device)
        shown = [(name, step) for name, _, step in (beside.partition(":") for beside in args.beside)]
        shown += [(cfg.experiment, step) for step in (args.ckpt or "").split(",")]
        if wrong := [step for _, step in shown if step and not step.isdecimal()]:
            raise ValueError(f"--ckpt, --beside: a checkpoint is a number, got {wrong[0]!r}")
        clouds, tag = {}, f"{cfg.dataset}-pooled" if args.pooled else cfg.dataset
        for name, step in shown:
            flag = "--ckpt" if name == cfg.experiment else "--beside"
            loaded = load_run(name, cfg.architecture, task, int(step) if step else None, cfg.ptrain_ver, flag)
            if cfg.preflight:
                with way_out():
                    check_run(loaded, task)
            rows = load_labelled(task, cfg.dataset, loaded.tokenizer, loaded.max_seq_len)
            place(loaded.model, device, flags)
            cloud = Cloud(encode(loaded.model, rows, cfg.batch_size, device, args.pooled), np.array(rows.label))
            write_projector(log_dir(name, cfg.architecture, task.name), cloud, task.labels, tag, loaded.step)
            sample = np.sort(np.random.default_rng(args.seed).permutation(len(rows))[: args.sample])
            clouds[f"{name}, update {loaded.step}"] = Cloud(cloud.vectors[sample], cloud.label[sample])
        figure, table = draw_clouds(clouds, task.labels, args.seed)
        image = cfg.folder / f"cls_{tag}.png"
        write_whole(image, lambda part: figure.savefig(part, format="png"))
        write_csv(image.with_suffix(".csv"), pd.DataFrame(table[1:], columns=list(table[0])))
        projector = log_dir(cfg.experiment, cfg.architecture, task.name)
        print(f"{image}\n{image.with_suffix('.csv')}\nprojector: {projector}")


if __name__ == "__main__":
    main()
