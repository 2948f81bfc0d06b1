"""Predictions of a model: logits of a split, a table of them, and the file that a benchmark's server takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fine_tune.data.tokens import Split
from fine_tune.files import write_csv, write_text, write_tsv
from fine_tune.hardware import distributed, rank
from fine_tune.hardware.device import to_device
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import check_segments
from fine_tune.scores.metrics import decide
from fine_tune.tasks.rows import SEVERAL


@torch.no_grad()
def predict(model: Classifier, split: Split, batch_size: int, device: torch.device) -> torch.Tensor:
    """Give the logits (N, C) of every row, in the order of the file, on the CPU; long rows share batches.

    Several processes share the batches, and every one gets all logits.
    """
    check_segments(model, split)
    model.eval()
    parts = of_like_length(split, batch_size)
    logits = torch.zeros(len(split), split.task.num_class, device=device)
    for rows in parts[rank.rank() :: rank.world_size()]:
        logits[rows] = model(**to_device(split.inputs(rows), device)).logits
    return distributed.add_up(logits).cpu()


@torch.no_grad()
def encode(
    model: Classifier, split: Split, batch_size: int, device: torch.device, pooled: bool = False
) -> NDArray[np.float32]:
    """Give the last state of [CLS], or its pooled output, of every row: (N, D), in the order of the file."""
    check_segments(model, split)
    model.eval()
    vectors = np.empty((len(split), model.width), np.float32)
    for rows in of_like_length(split, batch_size):
        out = model(**to_device(split.inputs(rows), device))
        vectors[rows] = (out.pooled if pooled else out.first).float().cpu().numpy()
    return vectors


def of_like_length(split: Split, batch_size: int) -> list[NDArray[np.int64]]:
    """Cut all rows into batches, the shortest rows first."""
    order = np.argsort(split.lengths, kind="stable")
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def save_prediction(file: Path, split: Split, logits: torch.Tensor) -> None:
    """Write id, label (where there is one), prediction and logits of every row as a tab-separated table.

    Classes are numbers; several have a `|` between them.
    """
    table = pd.DataFrame({"id": split.row_id})
    if split.label is not None:
        table["label"] = in_cells(np.array(split.label))
    table["prediction"] = in_cells(decide(split.task, logits))
    for number, column in enumerate(logits.numpy().T):
        table[f"logit_{number}"] = column
    write_tsv(file, table)


def in_cells(values: NDArray[Any]) -> Any:
    """Write predictions or labels as cells: as they are, or of several (N, C) the numbers of those that hold."""
    if values.ndim == 1:
        return values
    return [SEVERAL.join(map(str, row.nonzero()[0])) for row in values]


def save_submission(file: Path, split: Split, logits: torch.Tensor) -> None:
    """Write predictions the way the benchmark's server takes them, under the file's own ids.

    These are GLUE's table, or SuperGLUE's JSON lines, where an id is a number if it is written as one. Of a user's own
    task it is a table, or CSV, of the row's number and its class, or its classes with a `|` between them.

    Raises:
        ValueError: An id stands for two rows.
    """
    ids, counts = np.unique(split.row_id, return_counts=True)
    if len(ids) < len(split):
        twice = f"{split.task.index} {ids[counts > 1][0]}"
        raise ValueError(
            f"{split.task.file(split.name)}: {twice} stands for {counts.max()} rows; whose is the prediction?"
        )
    task, guess = split.task, decide(split.task, logits)
    if task.regression:
        words = [f"{value:.3f}" if not task.files else f"{value:.7g}" for value in guess]
    elif task.multi:
        words = [SEVERAL.join(task.labels[number] for number in row.nonzero()[0]) for row in guess]
    else:
        words = [task.labels[value] for value in guess]
    if file.suffix == ".jsonl":
        lines = [
            json.dumps({"idx": as_written(row), "label": word}) for row, word in zip(split.row_id, words, strict=True)
        ]
        write_text(file, "\n".join(lines) + "\n")
    elif file.suffix == ".csv":
        write_csv(file, pd.DataFrame({"index": split.row_id, "prediction": words}))
    else:
        write_tsv(file, pd.DataFrame({"index": split.row_id, "prediction": words}))


def as_written(row_id: str) -> int | str:
    """Turn an id into the number that it writes, if it is one."""
    return int(row_id) if row_id.isdecimal() and str(int(row_id)) == row_id else str(row_id)
