#!/usr/bin/env python3
"""What contrast costs at the size of MNLI: tokens, banks, negatives, gathering, the balanced order; time and memory.

    python benchmarks/bench_contrast.py --encoder FOLDER [--rows 392702] [--width 768] [--layers 6]

A generated corpus of pairs as long as MNLI's, in MNLI's format; banks of random vectors, one per layer of the student,
written as `build_membank.py` does. For an update of layer-wise contrast with negatives of other labels: what it takes
to draw and gather them, here and in the plain reading of the released code (an array of all candidates per row, a
choice without replacement, banks of a column per row); and to train a student of the encoder's size on those rows.
Memory is what belongs to the process alone, above what it had with the models loaded; pages of files do not count. Ends
with one JSON line.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import command_line
from fine_tune.data import tokens as data
from fine_tune.data.batches import Deal, updates
from fine_tune.data.contrast import Negatives, balanced
from fine_tune.flags.shared import OptimConfig
from fine_tune.losses import hard_target_loss
from fine_tune.model.load import fresh_teacher
from fine_tune.run.memory import lines
from fine_tune.run.optim import Part, Updater
from fine_tune.run.process import set_up_process
from fine_tune.tasks.table import TASKS
from fine_tune.teacher.bank import BLOCK, read_bank, write_bank
from fine_tune.teacher.banked import MemoryBank

MNLI_WORDS = (20, 10)
"""Mean number of words of premise and hypothesis."""


def own_memory() -> float:
    """Gigabytes that belong to this process alone."""
    (line,) = (line for line in lines("/proc/self/status") if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1e6


def write_rows(file: Path, count: int) -> None:
    """Generate pairs of random common words, as long as MNLI's."""
    draw = np.random.default_rng(0)
    words = np.array(
        [f"{a}{b}" for a in "the of and to in is was for on that with as it by at".split() for b in ("", "n")]
    )
    file.parent.mkdir(parents=True)
    with file.open("w", encoding="utf-8") as out:
        for row in range(count):
            one, two = (" ".join(draw.choice(words, max(2, draw.poisson(mean)))) for mean in MNLI_WORDS)
            label = ("entailment", "neutral", "contradiction")[row % 3]
            out.write(json.dumps({"sentence1": one, "sentence2": two, "gold_label": label}) + "\n")


def random_bank(file: Path, rows: int, width: int) -> Tensor:
    """Write a bank of random unit vectors and map it."""
    draw = torch.Generator().manual_seed(0)
    blocks = (
        F.normalize(torch.randn(min(BLOCK, rows - at), width, generator=draw), dim=-1) for at in range(0, rows, BLOCK)
    )
    write_bank(file, "membank", (rows, width), blocks, {})
    held: Tensor = read_bank(file)["membank"]
    return held


def released(rows: np.ndarray, label: np.ndarray, columns: list[Tensor], count: int) -> list[Tensor]:
    """Draw and gather as the released code reads: (B, D, K) of every layer, from banks of a column per row."""
    found = [torch.empty(len(rows), len(bank), count) for bank in columns]
    for place, row in enumerate(rows):
        candidates = np.flatnonzero(label != label[row])
        drawn = np.random.choice(candidates, count, replace=False)
        for layer, bank in enumerate(columns):
            found[layer][place] = bank[:, drawn]
    return found


def milliseconds(work, times: int) -> float:  # type: ignore[no-untyped-def]
    """Time calls; their median."""
    taken = []
    for number in range(times):
        start = time.perf_counter()
        work(number)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "batch_size", "max_seq_len")
    parser.add_argument("--rows", type=int, default=392702, help="rows of the corpus (default: MNLI's 392702)")
    parser.add_argument("--width", type=int, default=768, help="width of the banks (default: 768)")
    parser.add_argument("--layers", type=int, default=6, help="layers of the student (default: 6)")
    parser.add_argument("--neg_num", type=int, default=20, help="negatives of a row (default: 20)")
    parser.add_argument("--updates", type=int, default=30, help="updates to time (default: 30)")
    args = parser.parse_args()
    set_up_process()
    task, figures = TASKS["mnli"], {"rows": args.rows, "width": args.width, "layers": args.layers}
    model, tokenizer = fresh_teacher("bert", args.encoder, task, 0.1)
    base = own_memory()
    with tempfile.TemporaryDirectory() as name, mock.patch.dict("os.environ", {"DATA_DIR": name}):
        folder = Path(name)
        write_rows(folder / "fine_tune" / "mnli" / "train.jsonl", args.rows)
        start = time.perf_counter()
        split = data.load_labelled(task, "train", tokenizer, args.max_seq_len)
        figures |= {
            "tokenise_s": round(time.perf_counter() - start, 1),
            "mean_tokens": round(float(split.lengths.mean()), 1),
        }
        start, before = time.perf_counter(), own_memory()
        banks = [random_bank(folder / f"membank{layer}.pt", args.rows, args.width) for layer in range(args.layers)]
        figures |= {
            "write_banks_s": round(time.perf_counter() - start, 1),
            "banks_gb": round(sum(b.nbytes for b in banks) / 1e9, 2),
        }
        figures["write_banks_memory_gb"] = round(own_memory() - before, 2)

        start = time.perf_counter()
        batches = balanced(split, args.batch_size, 42, 0, 1)
        figures["balanced_ms"] = round(1000 * (time.perf_counter() - start) / len(batches), 3)
        negatives, label = Negatives(split, args.neg_num, True, 42), np.array(split.label)
        cpu = torch.device("cpu")
        stored = [MemoryBank(bank, cpu, cpu) for bank in banks]
        figures["negatives_ms"] = round(milliseconds(lambda at: negatives(batches[at], at), args.updates), 2)
        drawn = [negatives(rows, at) for at, rows in enumerate(batches[: args.updates])]

        def gather(at: int) -> list[Tensor]:
            return [bank(index) for bank in stored for index in (batches[at], drawn[at])]

        figures["gather_ms"] = round(milliseconds(gather, args.updates), 2)
        columns = [bank.t() for bank in banks]
        few = max(2, args.updates // 10)
        figures["released_ms"] = round(
            milliseconds(lambda at: released(batches[at], label, columns, args.neg_num), few), 1
        )
        ours = figures["negatives_ms"] + figures["gather_ms"]
        figures["ratio"] = round(figures["released_ms"] / ours, 1)

        words = model.encoder.get_input_embeddings()
        updater = Updater({"": Part([model.train()], OptimConfig(lr=1e-5), 10**6, 1, words)})
        given = updates(split, deal=Deal(negatives=negatives), batch_size=args.batch_size, seed=42)

        def step(_: int) -> None:
            (batch,) = next(given)
            updater.backward(hard_target_loss(model(**batch.student).logits, batch.label))
            updater.step()

        step(0)
        figures["step_ms"] = round(milliseconds(step, args.updates), 1)
        figures["share_of_step"] = round((ours + figures["balanced_ms"]) / figures["step_ms"], 4)
        figures["memory_gb"] = round(own_memory() - base, 2)
    for key, value in figures.items():
        print(f"{key:<24} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
