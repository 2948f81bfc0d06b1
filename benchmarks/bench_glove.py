#!/usr/bin/env python3
"""Measure networks on word vectors beside their teacher: labelling, a sentence at a time, a training step.

    OMP_NUM_THREADS=1 python benchmarks/bench_glove.py --encoder FOLDER --embedding_path FILE [--rows 4000]

1. Labelling: the teacher's logits of the first `--rows` training rows into a new cache, as `evaluate.py --augmented`
   makes them, against the time that a matrix product of the same FLOPs takes.
2. One sentence at a time, dev rows, the models in turns: median milliseconds, and how many times the teacher's speed.
3. A training step of `--batch_size` rows, against the time of a matrix product of its FLOPs.

Weights are random but for the encoder's. The last line is JSON.
"""

import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import command_line, make_teacher, own_data_dir, product_rates
from fine_tune.data.tokens import Split, load_split
from fine_tune.data.words import SPECIAL, split_words, word_tokenizer
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import TeacherRef
from fine_tune.glove.config import NETWORKS, read_config
from fine_tune.glove.material import word_classifier
from fine_tune.glove.vectors import matrix_for, read_vectors
from fine_tune.losses import logit_mse_loss
from fine_tune.model.load import load_teacher
from fine_tune.model.placement import place
from fine_tune.path import PROJECT
from fine_tune.run.outputs import Subject, outputs
from fine_tune.run.process import set_up_process
from fine_tune.scores.efficiency import milliseconds_per_sentence, parameters
from fine_tune.tasks.named import task_named
from fine_tune.tasks.rows import read_split

CPU = torch.device("cpu")
SENTENCES, STEPS = 300, 12


def first_rows(split: Split, count: int) -> Split:
    """Cut a split down to its first rows, under a key that no cache has."""
    offsets = split.offsets[: count + 1]
    tokens = {name: getattr(split, name)[: offsets[-1]] for name in ("input_ids", "token_type_ids")}
    rows = {"row_id": split.row_id[:count], "label": split.label[:count], "offsets": offsets}
    return dataclasses.replace(split, **tokens, **rows, key=f"bench-{time.time_ns()}")


def rate() -> float:
    """FLOP/s of this moment."""
    return max(product_rates(CPU, torch.float32).values())


def flops_of(work: Any) -> int:
    """Count the FLOPs of some work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "batch_size", "max_seq_len")
    parser.add_argument("--task", default="sst2", help="task of single sentences (default: sst2)")
    parser.add_argument("--embedding_path", required=True, help="word vectors in GloVe's text format")
    parser.add_argument("--rows", type=int, default=4000, help="rows to label (default: 4000)")
    args = parser.parse_args()
    set_up_process()
    task = task_named(args.task)
    with own_data_dir():
        flags = ("--task", args.task, "--device_id", "-1", "--no_preflight", "--overwrite")
        make_teacher(args, *flags)
        teacher = load_teacher(TeacherRef(teacher_exp="teacher"), task, None)
        train, dev = (load_split(task, name, teacher.tokenizer, args.max_seq_len) for name in ("train", task.dev[0]))
        place(teacher.model, CPU, Flags({}))
        found = {"labelling": labelling(teacher, first_rows(train, args.rows))}

    texts = [row.text[0] for name in ("train", task.dev[0]) for row in read_split(task, name)]
    words = {word for text in texts for word in split_words(text, lowercase=True)} - set(SPECIAL)
    vectors = read_vectors(Path(args.embedding_path), words)
    matrix = matrix_for(vectors.words, vectors, 42)
    models, splits = {"teacher": teacher.model}, {"teacher": dev}
    for name in NETWORKS.values():
        config = read_config(PROJECT / f"glove_student/configs/config-{name}.json")
        tokenizer = word_tokenizer(vectors.words, True, config["n_ctx"])
        models[name] = word_classifier(config, matrix, task.num_class, trainable=False)
        place(models[name], CPU, Flags({}))
        splits[name] = load_split(task, task.dev[0], tokenizer, config["n_ctx"])
    times = milliseconds_per_sentence(list(models.values()), list(splits.values()), SENTENCES, CPU)
    for (name, model), ms in zip(models.items(), times, strict=True):
        trained = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
        found[name] = {"ms_per_sentence": round(ms, 2), "times_teacher": round(times[0] / ms, 2)}
        found[name] |= {"parameters": parameters(model), "without_frozen": trained}
        if name != "teacher":
            found[name] |= training(model, splits[name], args.batch_size)
    for name, figures in found.items():
        print(name, *(f"{key} {value}" for key, value in figures.items()), sep="  ")
    print(json.dumps({"threads": torch.get_num_threads(), "dimension": vectors.dimension, **found}))


def labelling(teacher: Any, rows: Split) -> dict[str, float]:
    """Time the logits of rows from an empty cache, against a product of as many FLOPs."""
    subject = Subject(teacher, rows, CPU, 128)
    one = rows.inputs(torch.arange(1).numpy())
    tokens = int(rows.offsets[-1])
    each = flops_of(lambda: teacher.model(**one)) / one["input_ids"].numel()
    rates = [rate()]
    start = time.perf_counter()
    outputs(subject, "logits")
    taken = time.perf_counter() - start
    rates.append(rate())
    floor = each * tokens / statistics.mean(rates)
    return {
        "rows": len(rows),
        "tokens": tokens,
        "rows_per_s": round(len(rows) / taken, 1),
        "times_gemm_floor": round(taken / floor, 2),
    }


def training(model: torch.nn.Module, rows: Split, batch_size: int) -> dict[str, float]:
    """Time steps on batches of like length, without the optimiser, against products of as many FLOPs."""
    order = rows.lengths.argsort(kind="stable")
    middle = len(order) // 2
    inputs = rows.inputs(order[middle : middle + batch_size])
    target = torch.zeros(len(order[middle : middle + batch_size]), rows.task.num_class)
    model.train()

    def step() -> None:
        logit_mse_loss(model(**inputs).logits, target).backward()
        model.zero_grad()

    flops, taken, rates = flops_of(step), [], []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
        rates.append(rate())
    ms = 1000 * statistics.median(taken)
    floor = 1000 * flops / statistics.median(rates)
    return {
        "step_ms": round(ms, 1),
        "step_tokens": inputs["input_ids"].numel(),
        "times_gemm_floor": round(ms / floor, 2),
    }


if __name__ == "__main__":
    main()
