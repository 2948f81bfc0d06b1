#!/usr/bin/env python3
"""Where the processor's time of a LAD step goes, by kind of work, from torch's profiler.

    python benchmarks/bench_profile.py --encoder FOLDER [--precision bf16] [--teacher_cache states] [--device_id 0]

`run_lad_distil.py`, profiled over `--steps` updates after `--warm_up`. An operator's own time, without what it
calls, counts for the first kind in `KINDS` that its name, or the name of an operator around it, speaks of. What no
operator accounts for is Python. The profiler itself adds time; the last line is JSON and tells the step with it. With a
GPU the processor only launches: what its kernels take, and the operators that take longest, are told as well.
"""

import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import run_lad_distil
from benchmarks.common import UNDISTURBED, command_line, make_teacher, own_data_dir, ticking

KINDS = {
    "matrix products": r"::(addmm|mm|linear|_linear_pointwise)|Product|AddmmBackward|LinearBackward",
    "attention": r"scaled_dot_product|softmax|SoftmaxBackward|bmm|matmul",
    "optimiser and clipping": r"adam|foreach|Optimizer|norm_except|clip",
    "rows of the embedding": r"embedding|index|coalesce|sparse|unique",
    "GELU": r"gelu",
    "layer norm": r"layer_norm|LayerNorm",
    "dropout": r"dropout|random_",
    "conversions and copies": r"_to_copy|::to$|ToCopy|copy_|contiguous|clone",
}


def kind_of(event: Any) -> str:
    """Give the kind of an operator: its own if it has one, else that of the nearest operator around it."""
    while event is not None:
        for kind, names in KINDS.items():
            if re.search(names, event.name):
                return kind
        event = event.cpu_parent
    return "other operators"


def main() -> None:
    """Profile and print."""
    parser = command_line(__doc__, "batch_size", "max_seq_len", "precision")
    parser.add_argument("--task", default="sst2", help="task (default: sst2)")
    parser.add_argument("--teacher_cache", default="none", choices=("none", "states"), help="(default: none)")
    parser.add_argument("--device_id", type=int, default=-1, help="number of a GPU, -1 for the CPU (default: -1)")
    parser.add_argument("--compile", action="store_true", help="compiled")
    parser.add_argument("--steps", type=int, default=40, help="updates to profile (default: 40)")
    parser.add_argument("--warm_up", type=int, default=100, help="updates before them (default: 100)")
    args = parser.parse_args()
    on_gpu = args.device_id >= 0
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    profiler, done, times = profile(activities=activities), 0, list[float]()

    def tick() -> bool:
        nonlocal done
        done += 1
        if done == args.warm_up:
            profiler.start()
            times.append(time.perf_counter())
        if done == args.warm_up + args.steps:
            times.append(time.perf_counter())
            profiler.stop()
        return done == args.warm_up + args.steps

    shared = ["--task", args.task, "--batch_size", str(args.batch_size), *UNDISTURBED]
    shared += ["--device_id", str(args.device_id)]
    with own_data_dir():
        make_teacher(args, *shared)
        ours = ["--experiment", "ours", "--teacher_exp", "teacher", "--total_step", "1000000", "--lr", "1e-5"]
        speed = ["--precision", args.precision, "--teacher_cache", args.teacher_cache, *["--compile"] * args.compile]
        with ticking(tick):
            run_lad_distil.main([*ours, *shared, *speed])
    spent: Counter[str] = Counter()
    for event in profiler.events() or ():
        spent[kind_of(event)] += event.self_cpu_time_total / 1000 / args.steps
    step = 1000 * (times[1] - times[0]) / args.steps
    figures = {kind: round(ms, 1) for kind, ms in spent.most_common()}
    figures["between operators: Python"] = round(step - sum(spent.values()), 1)
    if on_gpu:
        averages = profiler.key_averages()
        for order in ("self_cpu_time_total", "self_device_time_total"):
            print(averages.table(sort_by=order, row_limit=20, max_name_column_width=60))
        kernels = sum(e.self_device_time_total for e in averages if e.device_type == DeviceType.CUDA)
        figures["kernels of the GPU"] = round(kernels / 1000 / args.steps, 1)
    for kind, ms in figures.items():
        print(f"{kind:<28} {ms:6.1f} ms  {ms / step:4.0%}")
    print(
        json.dumps(
            {"precision": args.precision, "teacher_cache": args.teacher_cache, "step_ms": round(step, 1)} | figures
        )
    )


if __name__ == "__main__":
    main()
