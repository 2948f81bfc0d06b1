#!/usr/bin/env python3
"""Time a distillation step against the libraries that a user would take instead, in one process.

    pip install -r requirements-bench.txt
    python benchmarks/bench_peers.py --encoder FOLDER [--precision bf16]

The job of the peers is knowledge distillation with hidden-state matching: same encoder, same SST-2 rows tokenised
beforehand, same batch size, soft and gold targets, every student layer matched with a teacher layer on all tokens.
Ours is `run_lad_distil.py`, which does all that and trains LAD's gates besides.

* TextBrewer: `GeneralDistiller`, batches padded to their longest (its examples pad to the maximum).
* HuggingFace: a `Trainer` with its own `compute_loss`, dynamic padding, batches grouped by length, fused AdamW.

The contenders take turns; a round is `--steps` updates of each after `--warm_up` that do not count. The last line is
JSON with the mean milliseconds per update over the rounds' medians.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    BertForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

import run_fine_tune
import run_lad_distil
from fine_tune import log
from fine_tune.data import Split, load_split, load_tokenizer
from fine_tune.layer_map import uniform_layer_map
from fine_tune.path import data_dir
from fine_tune.task import TASKS

TEMPERATURE = 10.0
HIDDEN_WEIGHT = 100.0
LR = 1e-5


class FinishedError(Exception):
    """A round is over."""


class Ticks:
    """Times of a contender's updates in one round."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Start empty."""
        self.first, self.last, self.times = args.warm_up, args.warm_up + args.steps, list[float]()

    def tick(self) -> bool:
        """Note the end of an update; true if the round is over."""
        self.times.append(time.perf_counter())
        return len(self.times) > self.last

    def milliseconds(self) -> float:
        """Mean time of an update, without those that warm up."""
        return 1000 * (self.times[self.last] - self.times[self.first]) / (self.last - self.first)


class Rows(Dataset[dict[str, Any]]):
    """A tokenised split as the libraries want it."""

    def __init__(self, split: Split) -> None:
        """Keep plain lists."""
        self.items = [
            {
                "input_ids": split.input_ids[start:end].tolist(),
                "token_type_ids": split.token_type_ids[start:end].tolist(),
                "attention_mask": [1] * int(end - start),
                "labels": int(label),
            }
            for start, end, label in zip(split.offsets, split.offsets[1:], split.label, strict=False)  # type: ignore[arg-type]
        ]

    def __len__(self) -> int:
        """Rows."""
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One row."""
        return self.items[row]


def models(args: argparse.Namespace) -> tuple[nn.Module, nn.Module, list[int]]:
    """Give teacher, student with half its layers, and the teacher layer (0-based) of each student layer."""
    teacher = BertForSequenceClassification.from_pretrained(args.encoder, output_hidden_states=True)
    layers = teacher.config.num_hidden_layers
    student = BertForSequenceClassification.from_pretrained(
        args.encoder, num_hidden_layers=layers // 2, output_hidden_states=True
    )
    return teacher.eval().requires_grad_(False), student, uniform_layer_map(layers, layers // 2)


def our_round(args: argparse.Namespace) -> float:
    """One round of `run_lad_distil.py`."""
    ticks = Ticks(args)

    class Clock(log.TrainLog):
        def advance(self) -> None:
            if ticks.tick():
                raise FinishedError

    plain, log.TrainLog = log.TrainLog, Clock  # type: ignore[misc]
    flags = ["--experiment", "ours", "--teacher_exp", "teacher", "--task", "sst2", "--overwrite", "--device_id", "-1"]
    flags += ["--batch_size", str(args.batch_size), "--total_step", "100000", "--lr", str(LR), "--ckpt_step", "100000"]
    with contextlib.suppress(FinishedError):
        run_lad_distil.main([*flags, "--softmax_temp", str(TEMPERATURE), "--precision", args.precision])
    log.TrainLog = plain  # type: ignore[misc]
    return ticks.milliseconds()


def trainer_round(args: argparse.Namespace, rows: Rows, collate: DataCollatorWithPadding) -> float:
    """One round of a HuggingFace Trainer."""
    ticks = Ticks(args)
    teacher, student, layer_map = models(args)

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
            return loss + HIDDEN_WEIGHT / len(hidden) * torch.stack(hidden).mean() / s.hidden_states[0].shape[-1]

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if ticks.tick():
                raise FinishedError

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            max_steps=100_000,
            per_device_train_batch_size=args.batch_size,
            learning_rate=LR,
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length",
            bf16=args.precision == "bf16",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = Distiller(student, settings, train_dataset=rows, data_collator=collate, callbacks=[Clock()])  # type: ignore[arg-type]
        with contextlib.suppress(FinishedError):
            trainer.train()
    return ticks.milliseconds()


def textbrewer_round(args: argparse.Namespace, rows: Rows, collate: DataCollatorWithPadding) -> float:
    """One round of TextBrewer, which has no half precision on CPUs."""
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    ticks = Ticks(args)
    teacher, student, layer_map = models(args)
    loader: DataLoader[Any] = DataLoader(rows, batch_size=args.batch_size, shuffle=True, collate_fn=collate)

    class Timed:
        def __len__(self) -> int:
            return len(loader)

        def __iter__(self) -> Iterator[Any]:
            for batch in loader:
                if ticks.tick():
                    raise FinishedError
                yield dict(batch)  # TextBrewer takes a plain one for keyword arguments

    def adaptor(batch: Any, outputs: Any) -> dict[str, Any]:
        return {
            "logits": outputs.logits,
            "losses": outputs.loss,
            "hidden": outputs.hidden_states,
            "inputs_mask": batch["attention_mask"],
        }

    with tempfile.TemporaryDirectory() as folder:
        distiller = GeneralDistiller(
            train_config=TrainingConfig(output_dir=folder, log_dir=None, device="cpu", ckpt_frequency=1),
            distill_config=DistillationConfig(
                temperature=TEMPERATURE,
                hard_label_weight=0.5,
                kd_loss_weight=0.5,
                kd_loss_type="ce",
                intermediate_matches=[
                    {
                        "layer_T": layer + 1,
                        "layer_S": number + 1,
                        "feature": "hidden",
                        "loss": "hidden_mse",
                        "weight": HIDDEN_WEIGHT / len(layer_map),
                    }
                    for number, layer in enumerate(layer_map)
                ],
            ),
            model_T=teacher,
            model_S=student,
            adaptor_T=adaptor,
            adaptor_S=adaptor,
        )
        optimizer = torch.optim.AdamW(student.parameters(), lr=LR, fused=True)
        with distiller, contextlib.suppress(FinishedError):
            distiller.train(
                optimizer,
                Timed(),
                num_epochs=1,
                scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args={"num_warmup_steps": 1, "num_training_steps": len(loader)},
                max_grad_norm=1.0,
                callback=None,
            )
    return ticks.milliseconds()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="hub name or folder of the teacher's encoder, a BERT")
    parser.add_argument("--batch_size", type=int, default=32, help="rows per update (default: 32)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of all that have it")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--steps", type=int, default=60, help="updates of a round (default: 60)")
    parser.add_argument("--warm_up", type=int, default=15, help="updates before them (default: 15)")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.encoder)
    rows = Rows(load_split(TASKS["sst2"], "train", tokenizer, 128))
    collate = DataCollatorWithPadding(tokenizer)
    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: our_round(args),
        "trainer": lambda: trainer_round(args, rows, collate),
        "textbrewer": lambda: textbrewer_round(args, rows, collate),
    }
    real = data_dir()
    with tempfile.TemporaryDirectory(prefix="bench_peers_") as folder:
        for name in ("fine_tune", "cache"):
            (real / name).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).symlink_to(real / name)
        os.environ["DATA_DIR"] = folder
        with contextlib.redirect_stdout(io.StringIO()):
            base = ["--experiment", "teacher", "--task", "sst2", "--total_step", "1", "--lr", "1e-9"]
            run_fine_tune.main([*base, "--ptrain_ver", args.encoder, "--device_id", "-1"])
        rounds: list[dict[str, float]] = []
        for _ in range(args.rounds):
            with contextlib.redirect_stdout(io.StringIO()):
                rounds.append({name: contender() for name, contender in contenders.items()})
            print("  ".join(f"{name} {ms:8.1f} ms" for name, ms in rounds[-1].items()), flush=True)
    median = {name: statistics.median(each[name] for each in rounds) for name in contenders}
    figures = {
        "precision": args.precision,
        "batch_size": args.batch_size,
        "threads": torch.get_num_threads(),
        **{f"{name}_ms": round(ms, 1) for name, ms in median.items()},
        **{f"{name}_ratio": round(ms / median["ours"], 2) for name, ms in median.items() if name != "ours"},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
