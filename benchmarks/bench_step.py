#!/usr/bin/env python3
"""Time a training step of a method: its own script against the arithmetic of the released code, in one process.

    python benchmarks/bench_step.py --method lad --encoder FOLDER [--precision bf16] [--teacher_cache states]

Ours is the training script itself, run in a temporary data folder; after every `--our_steps` of its updates the clock
stops for one update of the rival (`released.py`) and for matrix products that tell the machine's rate. Medians over
the rounds; FLOPs by torch's counter; peak memory of each contender alone, in a process of its own. The last line is
JSON; `warm_up_s` is what updates 2 to 40 took longer than later ones, as kernels are made for every new length.
"""

import argparse
import importlib
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import (
    UNDISTURBED,
    command_line,
    counting,
    make_teacher,
    own_data_dir,
    product_rates,
    resident_peak,
    seconds,
    synchronised,
    ticking,
)
from benchmarks.released import (
    Released,
    ReleasedAlp,
    ReleasedKd,
    ReleasedLad,
    ReleasedLadNo,
    ReleasedPkd,
    ReleasedTeacher,
)
from fine_tune.flags.shared import TeacherRef
from fine_tune.hardware.device import resolve_device
from fine_tune.hardware.precision import DTYPES
from fine_tune.model.load import load_teacher
from fine_tune.model.placement import compile_seconds
from fine_tune.tasks.named import task_named
from fine_tune.train.methods import METHODS

RIVALS: dict[str, type[Released]] = {
    "teacher": ReleasedTeacher,
    "kd": ReleasedKd,
    "pkd-hidden": ReleasedPkd,
    "alp-kd-hidden": ReleasedAlp,
    "lad": ReleasedLad,
    "lad_no": ReleasedLadNo,
}
"""By the names of the methods; `teacher` is `run_fine_tune.py`."""
WARM_UP = 40
MEMORY_SHARE = 0.03
"""Updates of the other contender, as a share of ours, before memory is read: it is settled long before."""


def product_flops(rows: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """FLOPs of oneDNN's product, for torch's counter."""
    return 2 * math.prod(rows) * weight[0]


class Contest:
    """Rounds of a training script's updates, with the rival's update in between.

    Args:
        args: The flags.
        device: Place of everything.
        between: Times the rival, in seconds, and the machine.
    """

    def __init__(self, args: argparse.Namespace, device: torch.device, between: Callable[[], dict[str, float]]) -> None:
        self.our_steps, self.wanted = args.our_steps, args.rounds
        self.device, self.between = device, between
        self.done, self.tokens, self.rounds = 0, list[int](), list[dict[str, float]]()
        self.began = synchronised(device)

    def tick(self) -> bool:
        """Count an update of ours; start and stop the clock where a round begins and ends; true after the last."""
        now = synchronised(self.device)
        self.done += 1
        if self.done == 1:
            self.first = now
        if self.done == WARM_UP // 2:
            onednn = {torch.ops.mkldnn._linear_pointwise: product_flops}
            self.counter = FlopCounterMode(display=False, custom_mapping=onednn)
            self.counter.__enter__()
        if self.done == WARM_UP:
            self.counter.__exit__(None, None, None)
            self.flops_per_token = self.counter.get_total_flops() / sum(self.tokens[WARM_UP // 2 : WARM_UP])
            self.warm_up_seconds = now - self.first
            self.between()  # warms up the rival
            self.start = synchronised(self.device)
        if self.done > WARM_UP and (self.done - WARM_UP) % self.our_steps == 0:
            mine = {"ours": (now - self.start) / self.our_steps}
            mine["tokens"] = sum(self.tokens[self.done - self.our_steps : self.done]) / self.our_steps
            self.rounds.append(mine | self.between())
            last = self.rounds[-1]
            print("  ".join(f"{name} {1000 * last[name]:8.1f} ms" for name in ("ours", "released")), flush=True)
            self.start = synchronised(self.device)
        return len(self.rounds) == self.wanted


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "batch_size", "max_seq_len", "precision")
    parser.add_argument("--method", choices=RIVALS, default="lad", help="method to time (default: lad)")
    parser.add_argument("--task", default="sst2", help="task (default: sst2)")
    parser.add_argument("--device_id", type=int, help="-1 for the CPU (default: a GPU if there is one)")
    parser.add_argument("--compile", action="store_true", help="ours compiled")
    parser.add_argument("--teacher_cache", default="none", choices=("none", "logits", "cls", "states"), help="of ours")
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default: 9)")
    parser.add_argument("--our_steps", type=int, default=40, help="our steps in a round (default: 40)")
    parser.add_argument("--no_memory", dest="memory", action="store_false", help="leave peak memory out")
    parser.add_argument(
        "--memory_steps",
        type=int,
        default=800,
        help="updates of ours before memory is read; it grows with the lengths seen, ever more slowly (default: 800)",
    )
    parser.add_argument("--memory_of", choices=("ours", "released"), help="only measure a contender's peak memory")
    args = parser.parse_args()

    device = resolve_device(args.device_id)
    if args.memory_of:
        return print(peak_memory(args, device))
    with own_data_dir():
        make_teacher(args, *flags(args))
        rival = new_rival(args, device)

        def between() -> dict[str, float]:
            rates = product_rates(device, DTYPES[args.precision])
            return rates | {"released": seconds(rival.step, device)}

        contest = Contest(args, device, between)
        run_ours(args, contest.tick, contest.tokens)
        peaks = {f"{name}_peak_mb": memory_alone(name) for name in ("ours", "released")} if args.memory else {}
    print(json.dumps(figures(args, contest) | peaks))


def flags(args: argparse.Namespace) -> list[str]:
    """Give the flags that a training script takes of ours."""
    place = str(args.device_id if args.device_id is not None else 0 if torch.cuda.is_available() else -1)
    shared = ["--task", args.task, "--batch_size", str(args.batch_size), *UNDISTURBED, "--overwrite"]
    return [*shared, "--device_id", place]


def new_rival(args: argparse.Namespace, device: torch.device) -> Released:
    """Build the method as released."""
    teacher = load_teacher(TeacherRef(teacher_exp="teacher"), task_named(args.task), None)
    return RIVALS[args.method](teacher, args.batch_size, device)


def run_ours(args: argparse.Namespace, tick: Callable[[], bool], tokens: list[int]) -> None:
    """Run the training script until `tick` ends it; note the tokens of its micro-batches."""
    speed = ["--precision", args.precision, *(["--compile"] if args.compile else [])]
    if args.method == "teacher":
        script, own_flags = "run_fine_tune", ["--ptrain_ver", args.encoder, "--max_seq_len", str(args.max_seq_len)]
    else:
        method = METHODS[args.method]
        script, own_flags = method.script, ["--teacher_exp", "teacher"]
        own_flags += [word for name, value in method.fixed.items() for word in (f"--{name}", value)]
    if args.teacher_cache != "none":
        speed += ["--teacher_cache", args.teacher_cache]
    total = max(WARM_UP + args.rounds * args.our_steps, args.memory_steps)
    duration = ["--total_step", str(total), "--warmup_step", "1", "--lr", "1e-5"]
    with ticking(tick), counting(tokens):
        importlib.import_module(script).main(
            ["--experiment", f"ours-{args.memory_of or 'speed'}", *duration, *flags(args), *speed, *own_flags]
        )


def figures(args: argparse.Namespace, contest: Contest) -> dict[str, Any]:
    """Give every figure of a contest."""
    rounds = contest.rounds
    median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    ours, tokens = (statistics.mean(each[name] for each in rounds) for name in ("ours", "tokens"))
    ratios = [each["released"] / each["ours"] for each in rounds]
    flops = contest.flops_per_token * tokens
    rates = {name: median[name] for name in ("gemm", "onednn") if name in median}
    return {
        **{name: getattr(args, name) for name in ("method", "task", "precision", "compile", "teacher_cache")},
        "batch_size": args.batch_size,
        "device": "cpu" if contest.device.type == "cpu" else torch.cuda.get_device_name(contest.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ours_ms": round(1000 * median["ours"], 1),
        "released_ms": round(1000 * median["released"], 1),
        "ratio": round(median["released"] / median["ours"], 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "compile_s": round(compile_seconds(), 1),
        "warm_up_s": round(contest.warm_up_seconds - (WARM_UP - 1) * median["ours"], 1),
        "tokens_per_step": round(tokens),
        "tokens_per_s": round(tokens / ours),
        "gflop_per_step": round(flops / 1e9, 2),
        "gemm_fraction": round(flops / ours / rates["gemm"], 3),
        "times_gemm_floor": round(ours * rates["gemm"] / flops, 2),
        **{f"{name}_rate_gflop_per_s": round(rate / 1e9) for name, rate in rates.items()},
        "times_fastest_floor": round(ours * max(rates.values()) / flops, 2),
    }


def memory_alone(contender: str) -> int:
    """Run a contender alone, in a process of its own and the same data folder: peak memory in MB."""
    command = [sys.executable, *sys.argv, "--memory_of", contender]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def peak_memory(args: argparse.Namespace, device: torch.device) -> int:
    """Run a contender in the data folder that is set: peak memory of this process, or of the GPU's tensors, in MB."""
    if args.memory_of == "released":
        rival = new_rival(args, device)
        for _ in range(max(1, round(MEMORY_SHARE * args.memory_steps))):
            rival.step()
    else:
        done = count(1)
        run_ours(args, lambda: next(done) == args.memory_steps, [])  # no FLOPs counted: that takes memory
    return torch.cuda.max_memory_allocated(device) // 10**6 if device.type == "cuda" else resident_peak()


if __name__ == "__main__":
    main()
