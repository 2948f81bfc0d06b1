#!/usr/bin/env python3
"""Time a training step: this project's against the arithmetic of the released code, side by side in one process.

    python benchmarks/bench_step.py --method lad --encoder FOLDER [--task sst2] [--batch_size 32] [--amp]

Released arithmetic, written from its description and on the same models and library: every sentence padded to
`max_seq_len`, text tokenised twice inside the loop, one backward pass for the logits' losses and one per student layer,
a value read back after each, torch's default AdamW. The contenders take turns; a round is one step of it and
`--our_steps` of ours, whose batches differ in length. Medians over the rounds; the last line is JSON.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F

from fine_tune import build, load, run
from fine_tune.config import OptimConfig
from fine_tune.data import load_split, updates
from fine_tune.layer_map import uniform_layer_map
from fine_tune.losses import hard_target_loss, hidden_mse_loss, soft_target_loss
from fine_tune.model.classifier import Classifier, student_encoder
from fine_tune.model.gate import GateChain
from fine_tune.model.init import init_student
from fine_tune.optim import Updater, parameter_groups
from fine_tune.task import read_split, task_named

WEIGHTS = {"soft": 0.5, "hard": 0.5, "hidden": 100.0}
TEMPERATURE = 10.0


class Contender:
    """A teacher, its student and its gates on fresh weights."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Build the models and the data."""
        self.task = task_named(args.task)
        self.args = args
        self.teacher, self.tokenizer = build.build_teacher("bert", args.encoder, self.task, 0.1)
        self.teacher.eval().requires_grad_(False)
        layers = self.teacher.num_layers
        self.layer_map = uniform_layer_map(layers, args.num_hidden_layers or layers // 2)
        sizes = {"num_hidden_layers": len(self.layer_map), "max_position_embeddings": args.max_seq_len}
        self.student = Classifier(student_encoder(self.teacher.encoder, sizes, 0.1), self.task.num_class, 0.1).train()
        init_student(self.student.encoder, self.teacher.encoder, self.layer_map, embeddings=True)
        self.gates = GateChain(self.student.width, args.max_seq_len, layers, self.layer_map)
        self.device = build.resolve_device(args.device_id)
        for model in (self.teacher, self.student, self.gates):
            model.to(self.device)

    def inputs(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Move a batch to the device."""
        return {name: value.to(self.device) for name, value in batch.items()}


class Ours(Contender):
    """The step of `fine_tune/train/lad.py`, without its log and its checkpoints."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Add the data path and the optimisers."""
        super().__init__(args)
        for model in (self.teacher, self.student):
            load.set_amp(model, self.device, args.amp)
        rows = load_split(self.task, "train", self.tokenizer, args.max_seq_len)
        self.updates = updates(rows, batch_size=args.batch_size, seed=42)
        self.student_updater = Updater([self.student], OptimConfig(lr=1e-4), 10**6, 1)
        self.gate_updater = Updater(list(self.gates.blocks.values()), OptimConfig(lr=1e-6), 10**6, 1)
        self.tokens = 0

    def step(self) -> None:
        """One update."""
        for batch in next(self.updates):
            self.tokens += int(batch.student["attention_mask"].sum())
            with torch.no_grad():
                t = self.teacher(**self.inputs(batch.teacher))
            s = self.student(**self.inputs(batch.student))
            mask = batch.mask.to(self.device)
            targets = self.gates(t.hidden_states, mask)
            soft = soft_target_loss(s.logits, t.logits, TEMPERATURE)
            hard = hard_target_loss(s.logits, batch.label.to(self.device))
            hidden = hidden_mse_loss(s.hidden_states, targets, mask)
            (WEIGHTS["soft"] * soft + WEIGHTS["hard"] * hard + WEIGHTS["hidden"] * hidden).backward()
        self.student_updater.step()
        self.gate_updater.step()


class Released(Contender):
    """The same update as the released code does it."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Add raw text and torch's default optimisers."""
        super().__init__(args)
        self.rows = self._shuffled()
        self.optimizers = [
            torch.optim.AdamW(parameter_groups([self.student], 0.01), lr=1e-4),
            torch.optim.AdamW(parameter_groups(self.gates.blocks.values(), 0.01), lr=1e-6),
        ]

    def _shuffled(self) -> Iterator[list[tuple[tuple[str, ...], float]]]:
        rows = read_split(self.task, "train")
        generator = torch.Generator().manual_seed(42)
        while True:
            for picked in torch.randperm(len(rows), generator=generator).split(self.args.batch_size):
                yield [(rows[index].text, rows[index].label) for index in picked]

    def tokenise(self, texts: list[tuple[str, ...]]) -> dict[str, torch.Tensor]:
        """Tokenise and pad to the maximum, as the released loop does for each model."""
        columns = [list(column) for column in zip(*texts, strict=True)]
        return self.inputs(
            self.tokenizer(
                *columns, padding="max_length", truncation=True, max_length=self.args.max_seq_len, return_tensors="pt"
            )
        )

    def step(self) -> None:
        """One update."""
        texts, labels = zip(*next(self.rows), strict=True)
        with torch.no_grad():
            t = self.teacher(**self.tokenise(texts))
        s = self.student(**self.tokenise(texts))
        targets = self.gates(t.hidden_states)
        label = torch.tensor(labels, device=self.device)
        label = label if self.task.regression else label.long()
        logits = WEIGHTS["hard"] * hard_target_loss(s.logits, label)
        logits = logits + WEIGHTS["soft"] * soft_target_loss(s.logits, t.logits, TEMPERATURE)
        logits.backward(retain_graph=True)
        logits.item()
        for state, target in zip(s.hidden_states, targets, strict=True):
            hidden = WEIGHTS["hidden"] / len(targets) * F.mse_loss(state, target)
            hidden.backward(retain_graph=True)
            hidden.item()
        for module in (self.student, *self.gates.blocks.values()):
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()


def milliseconds(step: Callable[[], None], count: int, device: torch.device) -> float:
    """Mean time of a step."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - start) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("lad",), default="lad", help="method to time (default: lad)")
    parser.add_argument("--encoder", required=True, help="hub name or folder of the teacher's encoder")
    parser.add_argument("--task", default="sst2", help="task (default: sst2)")
    parser.add_argument("--num_hidden_layers", type=int, help="student layers (default: half of the teacher's)")
    parser.add_argument("--batch_size", type=int, default=32, help="rows per step (default: 32)")
    parser.add_argument("--max_seq_len", type=int, default=128, help="tokens at most (default: 128)")
    parser.add_argument("--device_id", type=int, help="-1 for the CPU (default: a GPU if there is one)")
    parser.add_argument("--amp", action="store_true", help="our contender in mixed precision")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, after one to warm up (default: 7)")
    parser.add_argument("--our_steps", type=int, default=12, help="our steps in a round (default: 12)")
    args = parser.parse_args()
    run.set_up_process()
    torch.manual_seed(42)
    ours, released = Ours(args), Released(args)
    rounds = []
    for _ in range(args.rounds + 1):
        rounds.append(
            (milliseconds(ours.step, args.our_steps, ours.device), milliseconds(released.step, 1, released.device))
        )
        print(f"ours {rounds[-1][0]:8.1f} ms    released {rounds[-1][1]:8.1f} ms", flush=True)
    mine, theirs = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    figures = {
        "method": args.method,
        "task": args.task,
        "amp": args.amp,
        "batch_size": args.batch_size,
        "layers": [ours.teacher.num_layers, len(ours.layer_map)],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ours_ms": round(mine, 1),
        "released_ms": round(theirs, 1),
        "ratio": round(theirs / mine, 2),
        "ratio_range": [round(f(theirs / mine for mine, theirs in rounds[1:]), 2) for f in (min, max)],
        "tokens_per_s": round(ours.tokens / len(rounds) / args.our_steps / mine * 1000),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
