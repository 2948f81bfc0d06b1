#!/usr/bin/env python3
"""Measure the data path on a real split: tokenising cold, loading warm, padding, and waiting inside a training step.

    python benchmarks/bench_data.py --encoder FOLDER [--task sst2] [--split train] [--batch_size 32]

Ends with one JSON line. The cache that is measured lives in a temporary folder; the user's own is not touched.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import command_line
from fine_tune.data import tokens as data
from fine_tune.data.batches import batch_rows, updates
from fine_tune.flags.shared import OptimConfig
from fine_tune.losses import hard_target_loss
from fine_tune.model.load import fresh_teacher
from fine_tune.run.optim import Part, Updater
from fine_tune.run.process import set_up_process
from fine_tune.tasks.named import task_named


def seconds(work):
    """Time one call; give seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "batch_size", "max_seq_len")
    parser.add_argument("--task", default="sst2", help="task (default: sst2)")
    parser.add_argument("--split", default="train", help="split (default: train)")
    parser.add_argument("--steps", type=int, default=40, help="fine-tuning steps to time (default: 40)")
    args = parser.parse_args()
    set_up_process()
    task = task_named(args.task)
    model, tokenizer = fresh_teacher("bert", args.encoder, task, 0.1)

    def load():
        return data.load_split(task, args.split, tokenizer, args.max_seq_len)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(data, "cache_dir", lambda: Path(folder)):
        cold, _ = seconds(load)
        warm, rows = seconds(load)
        lengths = rows.lengths
        batches = batch_rows(lengths, args.batch_size, 42, 0)
        cells = sum(len(batch) * int(lengths[batch].max()) for batch in batches)

        lazy = model.encoder.get_input_embeddings()
        updater = Updater({"": Part([model.train()], OptimConfig(lr=1e-5), args.steps, 1, lazy)})
        given = updates(rows, batch_size=args.batch_size, seed=42)
        waits, steps = [], []
        for _ in range(args.steps):
            wait, (batch,) = seconds(lambda: next(given))
            start = time.perf_counter()
            updater.backward(hard_target_loss(model(**batch.student).logits, batch.label))
            updater.step()
            waits.append(wait)
            steps.append(wait + time.perf_counter() - start)
    figures = {
        "task": task.name,
        "split": args.split,
        "rows": len(rows),
        "mean_tokens": round(float(lengths.mean()), 2),
        "tokenise_cold_s": round(cold, 2),
        "load_warm_s": round(warm, 3),
        "pad_share": round(1 - int(lengths.sum()) / cells, 4),
        "released_pad_share": round(1 - float(lengths.mean()) / args.max_seq_len, 4),
        "wait_ms": round(1000 * statistics.median(waits), 3),
        "step_ms": round(1000 * statistics.median(steps), 1),
        "wait_share": round(sum(waits) / sum(steps), 5),
    }
    for name, value in figures.items():
        print(f"{name:<20} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
