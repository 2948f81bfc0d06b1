#!/usr/bin/env python3
"""Time a distillation step against the libraries that a user would take instead, in one process.

    pip install -r requirements-bench.txt
    python benchmarks/bench_peers.py --encoder FOLDER [--precision bf16]

The job is knowledge distillation with hidden-state matching: same encoder, same SST-2 rows tokenised
beforehand, same batch size, soft and gold targets, every student layer matched with a teacher layer on all tokens.

* Ours: `run_pkd_distill.py --pkd_exp pkd-hidden`, just that. LAD: `run_lad_distil.py`, which trains gates besides.
* TextBrewer: `GeneralDistiller`, batches padded to their longest (its examples pad to the maximum); float32 always, as
  it has no half precision on CPUs.
* HuggingFace: a `Trainer` with its own `compute_loss`, dynamic padding, batches grouped by length, fused AdamW.

The contenders take turns; a round is `--steps` updates of each after `--warm_up` that do not count. Each batches its
own way, so time is taken per real token, and said per update of the split's mean length. All share a process, so our
settings of memory serve the peers, too. The last line is JSON: medians over the rounds.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    BertForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

import run_lad_distil
import run_pkd_distill
from benchmarks import common
from fine_tune.data.tokens import Split, load_split, load_tokenizer
from fine_tune.hardware.precision import DTYPES
from fine_tune.layer_map import uniform_layer_map
from fine_tune.tasks.table import TASKS

TEMPERATURE = 10.0
HIDDEN_WEIGHT = 100.0
LR = 1e-5
SORTED = 50
"""Batches that the Trainer sorts by length together: a whole number of them has the split's mean length."""


class Job:
    """What is to be done, and how far a contender has come with it in this round."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.tokenizer = args, load_tokenizer(args.encoder)
        self.split = load_split(TASKS["sst2"], "train", self.tokenizer, args.max_seq_len)
        self.rows = rows(self.split)
        self.pad = DataCollatorWithPadding(self.tokenizer)
        self.times, self.tokens = list[float](), list[int]()

    def models(self) -> tuple[nn.Module, nn.Module, list[int]]:
        """Give teacher, student with half its layers, and the teacher layer (0-based) of each student layer."""
        teacher = BertForSequenceClassification.from_pretrained(self.args.encoder, output_hidden_states=True)
        layers = teacher.config.num_hidden_layers
        student = BertForSequenceClassification.from_pretrained(
            self.args.encoder, num_hidden_layers=layers // 2, output_hidden_states=True
        )
        followed = uniform_layer_map(layers, layers // 2)
        return teacher.eval().requires_grad_(False), student, list(followed.values())

    def collate(self, rows: list[dict[str, Any]]) -> Any:
        """Pad a peer's batch, and note its real tokens."""
        batch = self.pad(rows)
        self.tokens.append(int(batch["attention_mask"].sum()))
        return batch

    def tick(self) -> bool:
        """Note the end of an update; true if the round is over."""
        self.times.append(time.perf_counter())
        return len(self.times) == self.args.warm_up + self.args.steps

    def round(self, contender: Callable[["Job"], None]) -> float:
        """Run one round of a contender: milliseconds per update of the split's mean length."""
        self.times, self.tokens = [], []
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(common.FinishedError):
            contender(self)
        first, last = self.args.warm_up, self.args.warm_up + self.args.steps
        seconds = self.times[last - 1] - self.times[first - 1]
        return 1000 * common.of_mean_length(seconds, self.tokens[first:last], self.split, self.args.batch_size)


def rows(split: Split) -> list[dict[str, Any]]:
    """Give a tokenised split as the libraries want it: plain lists."""
    assert split.label is not None
    return [
        {
            "input_ids": split.input_ids[start:end].tolist(),
            "token_type_ids": split.token_type_ids[start:end].tolist(),
            "attention_mask": [1] * int(end - start),
            "labels": int(label),
        }
        for start, end, label in zip(split.offsets[:-1], split.offsets[1:], split.label, strict=True)
    ]


def ours(main: Callable[[Sequence[str]], None], words: Sequence[str], job: Job) -> None:
    """One of our scripts."""
    flags = ["--experiment", "ours", "--teacher_exp", "teacher", "--task", "sst2", "--overwrite", "--device_id", "-1"]
    flags += ["--batch_size", str(job.args.batch_size), "--total_step", "100000", *common.UNDISTURBED]
    flags += ["--lr", str(LR), "--softmax_temp", str(TEMPERATURE), "--hidden_mse_weight", str(HIDDEN_WEIGHT)]
    with common.ticking(job.tick), common.counting(job.tokens):
        main([*flags, "--precision", job.args.precision, *words])


def trainer(job: Job) -> None:
    """A HuggingFace Trainer."""
    teacher, student, layer_map = job.models()

    class Distiller(Trainer):
        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
            s = model(**inputs)
            with torch.no_grad():
                t = teacher(**inputs)
            log_s, log_t = (F.log_softmax(logits / TEMPERATURE, -1) for logits in (s.logits, t.logits))
            loss = 0.5 * s.loss + 0.5 * TEMPERATURE**2 * F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
            mask = inputs["attention_mask"].unsqueeze(-1)
            hidden = [
                ((s.hidden_states[number + 1] - t.hidden_states[layer + 1]).square() * mask).sum() / mask.sum()
                for number, layer in enumerate(layer_map)
            ]
            return loss + HIDDEN_WEIGHT * torch.stack(hidden).mean() / s.hidden_states[0].shape[-1]

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if job.tick():
                raise common.FinishedError

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            max_steps=100_000,
            per_device_train_batch_size=job.args.batch_size,
            learning_rate=LR,
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length",
            bf16=job.args.precision == "bf16",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Distiller(student, settings, train_dataset=job.rows, data_collator=job.collate, callbacks=[Clock()]).train()  # type: ignore[arg-type]


def textbrewer(job: Job) -> None:
    """TextBrewer."""
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    teacher, student, layer_map = job.models()
    loader: DataLoader[Any] = DataLoader(job.rows, job.args.batch_size, shuffle=True, collate_fn=job.collate)

    class Ticking:
        def __len__(self) -> int:
            return len(loader)

        def __iter__(self) -> Iterator[Any]:
            for batch in loader:
                yield dict(batch)  # TextBrewer takes a plain one for keyword arguments
                if job.tick():
                    raise common.FinishedError

    def adaptor(batch: Any, outputs: Any) -> dict[str, Any]:
        losses = {"logits": outputs.logits, "losses": outputs.loss, "hidden": outputs.hidden_states}
        return losses | {"inputs_mask": batch["attention_mask"]}

    matches = [
        {"layer_T": layer + 1, "layer_S": number + 1, "feature": "hidden", "loss": "hidden_mse"}
        | {"weight": HIDDEN_WEIGHT / len(layer_map)}
        for number, layer in enumerate(layer_map)
    ]
    weights = {"temperature": TEMPERATURE, "hard_label_weight": 0.5, "kd_loss_weight": 0.5, "kd_loss_type": "ce"}
    with tempfile.TemporaryDirectory() as folder:
        train = TrainingConfig(output_dir=folder, log_dir=None, device="cpu", ckpt_frequency=1)
        distil = DistillationConfig(**weights, intermediate_matches=matches)
        distiller = GeneralDistiller(train, distil, teacher, student, adaptor, adaptor)
        with distiller:
            distiller.train(
                torch.optim.AdamW(student.parameters(), lr=LR, fused=True),
                Ticking(),
                num_epochs=1,
                scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args={"num_warmup_steps": 1, "num_training_steps": len(loader)},
                max_grad_norm=1.0,
            )


CONTENDERS: dict[str, Callable[[Job], None]] = {
    "ours": partial(ours, run_pkd_distill.main, ["--pkd_exp", "pkd-hidden"]),
    "lad": partial(ours, run_lad_distil.main, []),
    "trainer": trainer,
    "textbrewer": textbrewer,
}


def main() -> None:
    """Measure and print."""
    parser = common.command_line(__doc__, "batch_size", "max_seq_len", "precision")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--steps", type=int, default=2 * SORTED, help="updates of a round (default: %(default)s)")
    parser.add_argument("--warm_up", type=int, default=SORTED, help="updates before them (default: %(default)s)")
    args = parser.parse_args()
    with common.own_data_dir():
        job = Job(args)
        common.make_teacher(args, "--task", "sst2", "--device_id", "-1")
        rounds: list[dict[str, float]] = []
        for _ in range(args.rounds):
            rates = common.product_rates(torch.device("cpu"), DTYPES[args.precision])
            rounds.append(rates | {name: job.round(contender) for name, contender in CONTENDERS.items()})
            print("  ".join(f"{name} {rounds[-1][name]:8.1f} ms" for name in CONTENDERS), flush=True)
    figures: dict[str, Any] = {"precision": args.precision, "batch_size": args.batch_size}
    figures["tokens_per_step"] = round(job.split.lengths.mean() * args.batch_size)
    figures |= {f"{name}_rate_gflop_per_s": round(statistics.median(r[name] for r in rounds) / 1e9) for name in rates}
    for name in CONTENDERS:
        figures[f"{name}_ms"] = round(statistics.median(each[name] for each in rounds), 1)
        if name != "ours":
            ratios = [each[name] / each["ours"] for each in rounds]
            figures[f"{name}_ratio"] = round(statistics.median(ratios), 2)
            figures[f"{name}_ratio_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
