#!/usr/bin/env python3
"""What is said of a run's memory before it starts, against the truth.

    python benchmarks/bench_memory.py --encoder FOLDER [--batch_sizes 32 128 384] [--precision bf16] [--device_id 0]

For fine-tuning and for LAD and every batch size: the estimate and the peak that `--dry_run` prints, and the peak of the
run itself, `--steps` updates. Each is a process of its own. In GB: resident, or of the GPU's tensors. Last line: JSON.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.common import UNDISTURBED, command_line, make_teacher, own_data_dir, resident_peak

RUNS = {"fine-tuning": "run_fine_tune", "lad": "run_lad_distil"}
FIGURES = {
    "expected": r"memory, expected +([\d.]+) GB",
    "dry_run": r"peak memory +([\d.]+) GB(?:, GPU ([\d.]+) GB)?",
    "run": r"peak of the run +([\d.]+) GB(?:, GPU ([\d.]+) GB)?",
}
"""By name, as they are printed; on a GPU it is the second number that counts."""


def run_alone(words: list[str]) -> None:
    """Be a process of its own: run a script, print its peak."""
    importlib.import_module(words[0]).main(words[1:])
    gpu = f", GPU {torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if torch.cuda.is_available() else ""
    print(f"peak of the run {resident_peak() / 1000:.2f} GB{gpu}")


def measure(words: list[str], on_gpu: bool) -> dict[str, float]:
    """Try a run and make it, each in a process of its own: every figure in GB."""
    told = ""
    for more in (["--dry_run"], []):
        done = subprocess.run([sys.executable, *sys.argv, "--run", *words, *more], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(words)}: {done.stderr}")
        told += done.stdout
    found = {name: re.search(pattern, told) for name, pattern in FIGURES.items()}
    return {name: float(match[match.lastindex if on_gpu else 1]) for name, match in found.items() if match}


def main() -> None:
    """Measure every point and print."""
    parser = command_line(__doc__, "max_seq_len", "precision")
    parser.add_argument("--task", default="sst2", help="task (default: sst2)")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[32, 128, 384], help="(default: 32 128 384)")
    parser.add_argument("--steps", type=int, default=10, help="updates of the run (default: 10)")
    parser.add_argument("--device_id", default="-1", help="number of a GPU, -1 for the CPU (default: -1)")
    parser.add_argument("--jobs", type=int, default=1, help="points measured at the same time (default: 1)")
    parser.add_argument("--run", nargs=argparse.REMAINDER, help="a script and its flags: run it alone, print its peak")
    args = parser.parse_args()
    if args.run:
        return run_alone(args.run)
    flags = ["--task", args.task, "--device_id", args.device_id, *UNDISTURBED]
    with own_data_dir():
        make_teacher(args, *flags)

        def point(run: str, batch_size: int) -> dict[str, object]:
            own = ["--ptrain_ver", args.encoder, "--max_seq_len", str(args.max_seq_len)]
            source = own if run == "fine-tuning" else ["--teacher_exp", "teacher"]
            words = [RUNS[run], "--experiment", f"{run}_{batch_size}", *source, *flags]
            words += ["--batch_size", str(batch_size), "--total_step", str(args.steps), "--precision", args.precision]
            figures = measure(words, on_gpu=args.device_id != "-1")
            shares = {f"{name}_share": round(figures[name] / figures["run"], 2) for name in ("expected", "dry_run")}
            print("  ".join(f"{name} {value}" for name, value in ({"batch": batch_size} | figures | shares).items()))
            return {"run_of": run, "batch_size": batch_size, **figures, **shares}

        with ThreadPoolExecutor(args.jobs) as pool:
            points = list(pool.map(lambda pair: point(*pair), product(RUNS, args.batch_sizes)))
    print(json.dumps({"task": args.task, "precision": args.precision, "torch": torch.__version__, "points": points}))


if __name__ == "__main__":
    main()
