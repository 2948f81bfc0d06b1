#!/usr/bin/env python3
r"""Compare methods: run what is missing, with every seed; then one table, every pair tested, and a chart.

    python run_suite.py --suite first --task sst2 --teacher_exp teacher --seeds 1,2,3 --epoch 3 \
        --methods lad,warm=lad,kd,fine_tune --set lr=1e-4 --set warm.softmax_temp=4

A row is METHOD or NAME=METHOD; its runs are the experiments SUITE-ROW-SEED. Interrupted, the same command continues.
All students have the same number of updates and, for each seed, the same start and order of the data, unless `--set`
says otherwise; `--set ROW.after=OTHER` lets ROW continue the run of OTHER, or learn from it offline. The last
checkpoints count; `--select_on train_select` chooses them, and `--sweep` hyper-parameters, on 5 % of the training rows
instead. The dev split is scored once, at the end. Writes `report.md`, `report.csv`, `pairs.csv`, `report.png` and the
logs of the runs into `data/suites/SUITE/`. How pairs are tested: `fine_tune/compare/statistics.py`.
"""

from collections.abc import Sequence
from pathlib import Path

from fine_tune.compare.suite import LAST_ONLY, Suite, apply_settings, parse_rows, parse_seeds, plan_all
from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.shared import DEVICE, TASK, whole_path
from fine_tune.tasks.named import task_named
from fine_tune.train.methods import METHODS


def build_parser() -> Parser:
    """Declare the flags."""
    parser = Parser(__doc__)
    parser.add_argument("--suite", required=True, help="name of the comparison")
    parser.add_argument("--task", required=True, help=TASK)
    parser.add_argument("--teacher_exp", required=True, help="experiment name of the teacher's run")
    parser.add_argument("--tmodel", help="architecture of the teacher (default: that of its run)")
    parser.add_argument("--tckpt", type=int, help="checkpoint of the teacher (default: its last)")
    parser.add_argument("--methods", required=True, help=f"rows, METHOD or NAME=METHOD, of {', '.join(METHODS)}")
    parser.add_argument("--seeds", required=True, help="seeds of every row, such as 1,2,3")
    duration = parser.add_mutually_exclusive_group()
    duration.add_argument("--epoch", type=float, help="passes over the data, for every row (default: 3)")
    duration.add_argument("--total_step", type=int, help="updates, for every row")
    parser.add_argument(
        "--set", action="append", default=[], metavar="[ROW.]KEY=VALUE", help="flag of every script that has it, or of "
        "one row's; KEY=true for a switch; may be given again",
    )  # fmt: skip
    parser.add_argument("--dataset", help="split to score at the end (default: the task's first dev split)")
    parser.add_argument(
        "--select_on", default="none", choices=("none", "train_select"), help="slice of train to choose checkpoints "
        "and hyper-parameters on; students are trained on the rest, train_fit (default: none)",
    )  # fmt: skip
    parser.add_argument("--ckpt_step", type=int, help="updates between two checkpoints that --select_on chooses from")
    parser.add_argument("--sweep", type=Path, help="YAML file, row -> flag -> list of values, tried on --select_on")
    parser.add_argument("--device_id", type=int, help=DEVICE)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace runs that were made otherwise, or are unfinished"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with its share of cores (default: 1)")
    parser.add_argument("--report_only", action="store_true", help="write the report of what is there; run nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Plan, run, score, report."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser, "interrupted; the same command continues from here"):
        select = args.select_on == "train_select"
        if not select and (args.sweep or args.ckpt_step is not None):
            raise ValueError("--sweep and --ckpt_step need --select_on train_select: nothing is chosen on dev")
        if args.jobs < 1:
            raise ValueError(f"--jobs must be > 0, got {args.jobs}")
        task, rows = task_named(args.task), parse_rows(args.methods)
        apply_settings(rows, args.set)

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.compare import results, score, train
        from fine_tune.compare.report import write_report
        from fine_tune.compare.sweep import sweep
        from fine_tune.run.process import set_up_process

        set_up_process()
        teacher = score.teacher_flags(args.teacher_exp, args.tmodel, args.tckpt, task)
        suite = Suite(
            name=args.suite, task=task, teacher=teacher, rows=rows, seeds=parse_seeds(args.seeds),
            duration={"epoch": args.epoch, "total_step": args.total_step}, split=args.dataset or task.dev[0],
            select=select, ckpt_step=args.ckpt_step if select else LAST_ONLY, device_id=args.device_id,
            overwrite=args.overwrite, report_only=args.report_only, jobs=args.jobs,
            task_flag=whole_path(args.task) if task.files and args.task != task.name else task.name,
        )  # fmt: skip
        plan_all(suite, rows, suite.ckpt_step)  # bad values end it here
        with train.locked(suite, parser.command) as lock:
            runs = plan_all(suite, sweep(suite, args.sweep, lock) if args.sweep else rows, suite.ckpt_step)
            train.make(suite, runs, lock)
            if select:
                score.score_slice(suite, runs, lock)
            chosen = score.choose(suite, runs)
            files = score.predict(suite, chosen)
        found = results.compare(files, suite.seeds, task, suite.split)
        speed, facts = score.measure(suite, chosen), score.facts(suite, runs, chosen, parser.command)
        write_report(suite.folder, suite.name, found, speed, facts)
        print(f"\n{suite.folder / 'report.md'}")


if __name__ == "__main__":
    main()
