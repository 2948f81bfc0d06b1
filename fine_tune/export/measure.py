"""Runs of a task in all their forms, measured side by side: score, agreement, size, operations, time.

Every run is scored at its last checkpoint, in its own tokens, cut at its own length. Agreement is with the first run:
the share of rows with the same class; of a regression, the correlation.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fine_tune.data.tokens import Inputs, Split, load_split
from fine_tune.export import lean
from fine_tune.export.check import split_logits
from fine_tune.export.folder import exported
from fine_tune.export.onnx import classify, needs
from fine_tune.files import markdown
from fine_tune.model.load import Loaded
from fine_tune.scores.efficiency import calls, classify_on, in_embeddings, operations, parameters, timed_in_turns
from fine_tune.scores.metrics import decide, score
from fine_tune.scores.predict import predict
from fine_tune.tasks.table import Task

LARGE = 32
"""Rows of a large batch."""
ROWS_PER_LARGE = 10
"""Sentences that are timed one by one for each large batch."""


logger = logging.getLogger(__name__)


class Contender(NamedTuple):
    """A run in one of its forms.

    Attributes:
        run: Its name.
        form: `torch`, `onnx` or `int8`.
        loaded: The run.
        rows: The rows in its tokens.
        file: What it is read from.
        classify: Gives logits (B, C) of inputs that are on `device`.
        logits: Gives those of all rows.
        device: Its place.
    """

    run: str
    form: str
    loaded: Loaded
    rows: Split
    file: Path
    classify: Callable[[Inputs], NDArray[np.float32]]
    logits: Callable[[], Tensor]
    device: torch.device


def contenders_of(
    name: str, loaded: Loaded, task: Task, dataset: str, forms: Sequence[str], batch_size: int, device: torch.device
) -> list[Contender]:
    """Open a run in those of some forms that it has; ONNX is on the CPU, with as many threads as torch has.

    Raises:
        ValueError: An export is of another checkpoint.
        FileNotFoundError: There is no data.
    """
    rows = load_split(task, dataset, loaded.tokenizer, loaded.max_seq_len)
    found = []
    for form in forms:
        if form == "torch":
            model = loaded.model.to(device)
            logits = partial(predict, model, rows, batch_size, device)
            found.append(
                Contender(name, form, loaded, rows, loaded.checkpoint, classify_on(model, device), logits, device)
            )
            continue
        needs("onnxruntime")
        try:
            file = exported(loaded, form, task) / lean.FILES[form]
        except FileNotFoundError as error:
            logger.warning("%s as %s is left out: %s", name, form, error)
            continue
        run = lean.open_network(file, torch.get_num_threads())
        logits = partial(split_logits, run, rows, lean.BATCH[form])
        found.append(Contender(name, form, loaded, rows, file, partial(classify, run), logits, torch.device("cpu")))
    return found


def measured(contenders: Sequence[Contender], sentences: int, batches: bool) -> list[dict[str, Any]]:
    """Score and time contenders.

    Args:
        contenders: They; the first is what the others are compared with.
        sentences: Sentences to time one by one.
        batches: Time large batches, too.

    Returns:
        A row of a table for each; what is not known is None.
    """
    times = {1: dict(enumerate(timed(contenders, sentences, 1)))}
    if batches:  # but for forms that read one text at a time
        several = [number for number, each in enumerate(contenders) if lean.BATCH.get(each.form) != 1]
        taken = timed([contenders[number] for number in several], max(1, sentences // ROWS_PER_LARGE), LARGE)
        times[LARGE] = dict(zip(several, taken, strict=True))
    table: list[dict[str, Any]] = []
    first: Tensor | None = None
    for number, each in enumerate(contenders):
        logits, task, model = each.logits(), each.rows.task, each.loaded.model
        first = logits if first is None else first
        scores = score(each.rows, logits)
        tokens = int(np.median(each.rows.lengths))
        row = {
            "run": each.run,
            "format": each.form,
            **{metric: scores[metric] for metric in task.metrics},
            "agreement": agreement(task, first, logits),
            "parameters": parameters(model),
            "without_embeddings": parameters(model) - in_embeddings(model),
            "MB": each.file.stat().st_size / 1e6,
            "tokens": tokens,
            "FLOPs": operations(model.encoder.config, tokens, task.num_class),
        }
        for size, found in times.items():
            row |= dict.fromkeys((f"p50_ms_{size}", f"p95_ms_{size}", f"sentences_per_second_{size}"))
            if number in found:
                own = found[number]
                row |= {f"p50_ms_{size}": np.median(own), f"p95_ms_{size}": np.quantile(own, 0.95)}
                row[f"sentences_per_second_{size}"] = 1000 * size / own.mean()
        row["speed_up"] = np.median(times[1][0]) / np.median(times[1][number])
        table.append(row)
    return table


def timed(contenders: Sequence[Contender], count: int, batch_size: int) -> list[NDArray[np.float64]]:
    """Time all contenders on the same rows, in turns."""
    count = max(1, min(count, len(contenders[0].rows) // batch_size))
    return timed_in_turns([calls(each.classify, each.rows, count, batch_size, each.device) for each in contenders])


def agreement(task: Task, one: Tensor, other: Tensor) -> float:
    """Share of the rows of which two models say the same; of a regression, the correlation of what they say."""
    if task.regression:
        return float(np.corrcoef(one[:, 0], other[:, 0])[0, 1])
    same = np.asarray(decide(task, one) == decide(task, other))
    return float(same.reshape(len(same), -1).all(1).mean())


def narrow(table: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, str]]:
    """Write what matters most in few columns; formats and agreement where there are several rows to tell apart."""
    several = any(row["format"] != "torch" for row in table)
    return [
        {
            "run": row["run"],
            **({"format": row["format"]} if several else {}),
            **{metric: f"{row[metric]:.4f}" for metric in metrics},
            "agrees": f"{row['agreement']:.4f}",
            "parameters": f"{row['parameters'] / 1e6:.1f} M",
            "size": f"{row['MB']:.0f} MB" if row["MB"] >= 10 else f"{row['MB']:.1f} MB",
            "ms/sentence": f"{row['p50_ms_1']:.2f}",
            "speed-up": f"{row['speed_up']:.2f}x",
        }
        for row in table
    ]


def wide(table: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, str]]:
    """Write all that was measured; MFLOPs are for a text of the median length."""
    found = []
    for row, few in zip(table, narrow(table, metrics), strict=True):
        much = {
            "without embeddings": f"{row['without_embeddings'] / 1e6:.1f} M",
            "MFLOPs": known(row["FLOPs"] and row["FLOPs"] / 1e6, ".1f"),
            "p95 ms": f"{row['p95_ms_1']:.2f}",
            f"p50 ms, batch {LARGE}": known(row[f"p50_ms_{LARGE}"], ".1f"),
            f"p95 ms, batch {LARGE}": known(row[f"p95_ms_{LARGE}"], ".1f"),
            f"sentences/s, batch {LARGE}": known(row[f"sentences_per_second_{LARGE}"], ".0f"),
        }
        found.append(few | much)
    return found


def known(value: float | None, form: str) -> str:
    """Write a number; nothing where it is not known."""
    return "" if value is None else f"{value:{form}}"


def laid_out(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Lay out a table in markdown for a terminal: the cells of a column are equally wide."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return markdown([[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in cells])
