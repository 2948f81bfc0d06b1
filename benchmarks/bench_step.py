#!/usr/bin/env python3
"""Time a training step of a method: its own script against the arithmetic of the released code, in one process.

    python benchmarks/bench_step.py --method lad --encoder FOLDER [--precision bf16] [--teacher_cache states]

Ours is the training script itself, run in a temporary data folder; after every `--our_steps` of its updates the clock
stops for one update of the rival (`released.py`) and for matrix products that tell the machine's rate. Medians over
the rounds; FLOPs by torch's counter; peak memory of each contender alone, in a process of its own. The last line is
JSON; batches differ in length, so it tells the tokens of the rounds' mean step beside those of the whole split's.
"""

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.flop_counter import FlopCounterMode

import run_fine_tune
import run_lad_distil
from benchmarks.released import ReleasedLad, ReleasedTeacher, resident_peak
from fine_tune import build, load, log
from fine_tune.batches import Batch, batch_rows
from fine_tune.config import RunConfig, TeacherRef
from fine_tune.data import Split
from fine_tune.model import linear
from fine_tune.path import data_dir
from fine_tune.precision import DTYPES
from fine_tune.task import task_named

METHODS: dict[str, tuple[Callable[..., None], type, list[str]]] = {
    "lad": (run_lad_distil.main, ReleasedLad, ["--teacher_exp", "teacher", "--hidden_mse_weight", "100"]),
    "teacher": (run_fine_tune.main, ReleasedTeacher, []),
}
WARM_UP = 40
GEMM = 1024


def product_flops(rows: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """FLOPs of oneDNN's product, for torch's counter."""
    return 2 * math.prod(rows) * weight[0]


class FinishedError(Exception):
    """The benchmark has what it wants."""


def synchronised(device: torch.device) -> float:
    """Wait for the device, then read the clock: seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], Any], device: torch.device, count: int = 1) -> float:
    """Time some work: seconds per call."""
    start = synchronised(device)
    for _ in range(count):
        work()
    return (synchronised(device) - start) / count


class Clock(log.TrainLog):
    """Takes the place of a run's log: times its updates, and lets the rivals in between."""

    args: argparse.Namespace
    device: torch.device
    between: Callable[[], dict[str, float]]
    tokens: list[int]
    rounds: list[dict[str, float]]
    done = 0
    flops_per_token = 0.0
    epoch_tokens = 0.0

    def advance(self) -> None:
        """Count one update of ours; start and stop the clock where a round begins and ends."""
        now, done = synchronised(self.device), self.done + 1
        self.done = done
        if done == WARM_UP // 2:
            onednn = {torch.ops.mkldnn._linear_pointwise: product_flops}
            self.counter = FlopCounterMode(display=False, custom_mapping=onednn)
            self.counter.__enter__()
        if done == WARM_UP:
            self.counter.__exit__(None, None, None)
            Clock.flops_per_token = self.counter.get_total_flops() / sum(self.tokens[WARM_UP // 2 : WARM_UP])
            self.between()  # warms up the rivals
            self.start = synchronised(self.device)
        if done > WARM_UP and (done - WARM_UP) % self.args.our_steps == 0:
            mine = {"ours": (now - self.start) / self.args.our_steps}
            mine["tokens"] = sum(self.tokens[done - self.args.our_steps : done]) / self.args.our_steps
            self.rounds.append(mine | self.between())
            last = self.rounds[-1]
            print("  ".join(f"{name} {1000 * last[name]:8.1f} ms" for name in ("ours", "released")), flush=True)
            if len(self.rounds) == self.args.rounds:
                raise FinishedError
            self.start = synchronised(self.device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, default="lad", help="method to time (default: lad)")
    parser.add_argument("--encoder", required=True, help="hub name or folder of the teacher's encoder")
    parser.add_argument("--task", default="sst2", help="task (default: sst2)")
    parser.add_argument("--batch_size", type=int, default=32, help="rows per step (default: 32)")
    parser.add_argument("--max_seq_len", type=int, default=128, help="tokens at most (default: 128)")
    parser.add_argument("--device_id", type=int, help="-1 for the CPU (default: a GPU if there is one)")
    parser.add_argument("--precision", choices=DTYPES, default="fp32", help="of ours (default: fp32)")
    parser.add_argument("--compile", action="store_true", help="ours compiled")
    parser.add_argument("--teacher_cache", default="none", choices=("none", "logits", "cls", "states"), help="of ours")
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default: 9)")
    parser.add_argument("--our_steps", type=int, default=40, help="our steps in a round (default: 40)")
    parser.add_argument("--no_memory", dest="memory", action="store_false", help="leave peak memory out")
    parser.add_argument("--memory_of", choices=("ours", "released"), help="only measure a contender's peak memory")
    args = parser.parse_args()

    task = task_named(args.task).name
    if args.memory_of:
        return measure(args, task)
    real = data_dir()
    with tempfile.TemporaryDirectory(prefix="bench_step_") as folder:
        os.environ["DATA_DIR"] = folder
        for name in ("fine_tune", "cache"):
            (real / name).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).symlink_to(real / name)
        measure(args, task)


def measure(args: argparse.Namespace, task: str) -> None:
    """Run ours, with the rivals in between, in the data folder that is set."""
    device = build.resolve_device(args.device_id)
    script, rival_class, own_flags = METHODS[args.method]
    shared = ["--task", task, "--batch_size", str(args.batch_size), "--ckpt_step", "1000000", "--overwrite"]
    shared += ["--device_id", str(-1 if device.type == "cpu" else device.index)]
    encoder = ["--ptrain_ver", args.encoder, "--max_seq_len", str(args.max_seq_len)]
    if not args.memory_of:
        with contextlib.redirect_stdout(io.StringIO()):
            run_fine_tune.main(["--experiment", "teacher", "--total_step", "1", "--lr", "1e-9", *shared, *encoder])

    def new_rival() -> Any:
        ref = TeacherRef(teacher_exp="teacher")
        return rival_class(load.load_teacher(ref, task_named(task), None), args.batch_size, device)

    Clock.args, Clock.device, Clock.tokens, Clock.rounds = args, device, [], []
    if args.memory_of == "released":
        rival = new_rival()
        for _ in range(4):
            rival.step()
        return print(peak_memory(device))
    if args.memory_of == "ours":
        args.rounds, args.our_steps = 1, 40
        Clock.between = lambda self: {"released": 0.0}  # type: ignore[method-assign, misc, assignment]
    else:
        rival = new_rival()
        matrix = torch.randn(GEMM, GEMM, device=device, dtype=DTYPES[args.precision])

        def between(self: Clock) -> dict[str, float]:
            times = {"gemm": seconds(lambda: matrix @ matrix, device, 20)}
            if linear.AVAILABLE and device.type == "cpu":
                times["onednn"] = seconds(lambda: linear.product(matrix, matrix), device, 20)
            return times | {"released": seconds(rival.step, device)}

        Clock.between = between  # type: ignore[method-assign, assignment]

    counted = build.updates_of

    def counting(cfg: RunConfig, rows: Split) -> Iterator[list[Batch]]:
        batches = batch_rows(rows.lengths, cfg.batch_size, cfg.seed, 0)
        Clock.epoch_tokens = sum(len(batch) * rows.lengths[batch].max() for batch in batches) / len(batches)
        for update in counted(cfg, rows):
            Clock.tokens.append(sum(batch.student["input_ids"].numel() for batch in update))  # type: ignore[union-attr]
            yield update

    build.updates_of = counting
    log.TrainLog = Clock  # type: ignore[misc]
    flags = ["--experiment", "ours", "--total_step", "1000000", "--warmup_step", "1", "--lr", "1e-5"]
    flags += ["--precision", args.precision, *shared, *own_flags] + (["--compile"] if args.compile else [])
    if args.method == "teacher":
        flags += encoder
    elif args.teacher_cache != "none":
        flags += ["--teacher_cache", args.teacher_cache]
    with contextlib.suppress(FinishedError):
        script(flags)
    if args.memory_of:
        return print(peak_memory(device))
    report(args, device)


def report(args: argparse.Namespace, device: torch.device) -> None:
    """Print every figure as one line of JSON."""
    rounds = Clock.rounds
    median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    ratios = [each["released"] / each["ours"] for each in rounds]
    flops = Clock.flops_per_token * statistics.mean(each["tokens"] for each in rounds)
    ours = statistics.mean(each["ours"] for each in rounds)
    rates = {name: 2 * GEMM**3 / median[name] for name in ("gemm", "onednn") if name in median}
    gemm_rate = rates["gemm"]
    peaks = {name: memory_alone(name) for name in ("ours", "released")} if args.memory else {}
    figures = {
        **{name: getattr(args, name) for name in ("method", "task", "precision", "compile", "teacher_cache")},
        "batch_size": args.batch_size,
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ours_ms": round(1000 * median["ours"], 1),
        "released_ms": round(1000 * median["released"], 1),
        "ratio": round(median["released"] / median["ours"], 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "tokens_per_step": round(statistics.mean(each["tokens"] for each in rounds)),
        "epoch_tokens_per_step": round(Clock.epoch_tokens),
        "tokens_per_s": round(statistics.mean(each["tokens"] for each in rounds) / ours),
        "gflop_per_step": round(flops / 1e9, 2),
        "gemm_fraction": round(flops / ours / gemm_rate, 3),
        "times_gemm_floor": round(ours * gemm_rate / flops, 2),
        **{f"{name}_rate_gflop_per_s": round(rate / 1e9) for name, rate in rates.items()},
        "times_fastest_floor": round(ours * max(rates.values()) / flops, 2),
    } | {f"{name}_peak_mb": peak for name, peak in peaks.items()}
    print(json.dumps(figures))


def memory_alone(contender: str) -> int:
    """Run a contender alone, in a process of its own and the same data folder: peak memory in MB."""
    command = [sys.executable, *sys.argv, "--memory_of", contender]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process, or of the GPU's tensors, in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 10**6
    return resident_peak()


if __name__ == "__main__":
    main()
