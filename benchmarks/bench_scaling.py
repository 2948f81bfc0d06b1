#!/usr/bin/env python3
"""How a LAD run's time and memory grow with rows, length, batch size and layers; one table, one picture.

    python benchmarks/bench_scaling.py --encoder FOLDER [--precision bf16] [--png scaling.png]

Every point is `run_lad_distil.py` in a process and a data folder of its own, on SST-2's sentences: its first rows, or,
for the length, sentences strung together to that many tokens. The teacher has the encoder's sizes, the layers of the
point and random weights, the student half as many layers. Set-up is everything up to the first update, with the rows
tokenised anew. Time is taken per token, and said per update of the rows' mean length. The last line is JSON.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from transformers import AutoConfig

import run_fine_tune
import run_lad_distil
from benchmarks.common import (
    UNDISTURBED,
    command_line,
    counting,
    of_mean_length,
    resident_peak,
    ticking,
    write_encoder,
)
from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import TASKS

BASE = {"rows": 10_000, "length": 0, "batch_size": 32, "layers": 6}
AXES = {
    "rows": [10_000, 20_000, 40_000, 67_349],
    "length": [16, 32, 64, 128],
    "batch_size": [8, 16, 32, 64, 128],
    "layers": [2, 4, 6, 12],
}
"""Length 0: the sentences as they are."""
WARM_UP = 40
LONGEST = 128


def write_corpus(folder: Path, rows: int, length: int) -> None:
    """Write `rows` sentences of SST-2 as its training split, or strings of them with at least `length` words."""
    source = read_split(TASKS["sst2"], "train")
    endless = itertools.cycle(source)
    lines = ["sentence\tlabel"]
    for _ in range(rows):
        row = next(endless)
        words = row.text[0].split()
        while len(words) < length:
            words += next(endless).text[0].split()
        lines.append(f"{' '.join(words)}\t{int(row.label or 0)}")
    folder.mkdir(parents=True)
    (folder / "train.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(point: dict[str, int], args: argparse.Namespace) -> dict[str, float]:
    """Measure one point in this process."""
    with tempfile.TemporaryDirectory(prefix="bench_scaling_") as name:
        root = Path(name)
        write_corpus(root / "fine_tune" / "SST-2", point["rows"], point["length"])
        config = AutoConfig.from_pretrained(args.encoder, num_hidden_layers=point["layers"])
        write_encoder(root / "encoder", config, load_tokenizer(args.encoder))
        os.environ["DATA_DIR"] = name
        longest = str(point["length"] or LONGEST)
        shared = ["--task", "sst2", "--batch_size", str(point["batch_size"]), *UNDISTURBED]
        shared += ["--precision", args.precision, "--total_step"]
        encoder = ["--ptrain_ver", str(root / "encoder"), "--max_seq_len", longest]
        run_fine_tune.main(["--experiment", "teacher", *encoder, *shared, "1", "--lr", "1e-9"])
        for cached in (root / "cache").iterdir():
            cached.rename(cached.with_name(f"old-{cached.name}"))
        times = [time.perf_counter()]

        def tick() -> bool:
            times.append(time.perf_counter())
            return len(times) > WARM_UP + args.steps

        with ticking(tick), counting(tokens := list[int]()):
            run_lad_distil.main(["--experiment", "LAD", "--teacher_exp", "teacher", *shared, "1000000"])
        peak = resident_peak()
        rows = load_split(TASKS["sst2"], "train", load_tokenizer(str(root / "encoder")), int(longest))
        timed = tokens[WARM_UP : WARM_UP + args.steps]
        step = of_mean_length(times[-1] - times[WARM_UP], timed, rows, point["batch_size"])
        set_up = times[1] - times[0] - step
    return {"set_up_s": round(set_up, 2), "step_ms": round(1000 * step, 1), "peak_mb": peak}


def draw(points: list[dict[str, float]], file: Path) -> None:
    """Draw time per step and peak memory against every axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(AXES), figsize=(11, 5), layout="constrained")
    for column, axis in enumerate(AXES):
        mine = [point for point in points if point["axis"] == axis]
        for row, (name, label) in enumerate((("step_ms", "ms per update"), ("peak_mb", "peak memory, MB"))):
            panel = axes[row][column]
            panel.plot([point[axis] for point in mine], [point[name] for point in mine], "o-", color="#0072B2")
            panel.set_ylim(0, 1.1 * max(point[name] for point in mine))
            panel.set_xlim(left=0)
            panel.grid(alpha=0.3)
            panel.set_xlabel(axis.replace("_", " ").replace("length", "tokens per sentence"))
            if column == 0:
                panel.set_ylabel(label)
    figure.savefig(file, dpi=150)


def main() -> None:
    """Measure every point in a process of its own, and print."""
    parser = command_line(__doc__, "precision")
    parser.add_argument("--steps", type=int, default=40, help="updates to time per point (default: 40)")
    parser.add_argument("--axis", nargs="*", choices=AXES, default=list(AXES), help="what to vary (default: all)")
    parser.add_argument("--png", type=Path, help="draw the curves into this file")
    parser.add_argument("--point", type=json.loads, help="measure this point alone, as JSON")
    args = parser.parse_args()
    if args.point:
        return print(json.dumps(measure(args.point, args)))
    points = []
    for axis in args.axis:
        for value in AXES[axis]:
            point = BASE | {axis: value}
            command = [sys.executable, *sys.argv, "--point", json.dumps(point)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{point}: {done.stderr}")
            points.append({"axis": axis, **point, **json.loads(done.stdout.splitlines()[-1])})
            print("  ".join(f"{name} {number}" for name, number in points[-1].items()), flush=True)
    if args.png:
        draw(points, args.png)
    print(json.dumps({"precision": args.precision, "threads": torch.get_num_threads(), "points": points}))


if __name__ == "__main__":
    main()
