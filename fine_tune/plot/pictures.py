"""Pictures of runs, each with the numbers behind it: losses and rates, gates, shares of teacher layers, scores."""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fine_tune.files import write_csv, write_whole
from fine_tune.plot.shares import Shares, attention_weights, openings_of, target_shares
from fine_tune.plot.style import WIDTH, cells_of, draw_curves, draw_shares, log_scale, look, panels
from fine_tune.run.history import Curve, History

LOSSES = ("loss", "soft_loss", "hard_loss", "hidden_loss")
RATES = {"lr": "learning rate", "gate_lr": "learning rate of the gates"}

Runs = Mapping[str, History]
Rows = list[tuple[Any, ...]]
Picture = tuple[Figure, Rows]
"""A picture and the rows behind it, the names of the columns first."""


def draw(runs: Runs, folder: Path) -> tuple[list[Path], list[Path]]:
    """Write every picture that the runs have data for, as PNG, with a CSV beside it.

    Returns:
        The files written, and those of pictures without data, which earlier calls have left in the folder.
    """
    written, left = [], []
    pictures = {name: picture(runs) for name, picture in PICTURES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in pictures.items():
        image, table = folder / f"{name}.png", folder / f"{name}.csv"
        if not made:
            left += [file for file in (image, table) if file.exists()]
            continue
        figure, rows = made
        write_whole(image, lambda part, figure=figure: figure.savefig(part, format="png"))  # type: ignore[misc]
        write_csv(table, pd.DataFrame(rows[1:], columns=list(rows[0])))
        written += [image, table]
    return written, left


def losses(runs: Runs) -> Picture | None:
    """Draw every loss (log scale) and the learning rates over the updates, one panel each."""
    logs = {run: history.log for run, history in runs.items()}
    found = dict.fromkeys(name for log in logs.values() for name in log)
    others = [name for name in found if name.endswith("loss") and name not in LOSSES]
    names = [name for name in (*LOSSES, *others, *RATES) if name in found]
    if not names:
        return None
    if "hard_loss" in names:
        # Fine-tuning has one loss, that of the gold labels: it belongs beside the hard losses.
        plain = {run for run, log in logs.items() if [name for name in log if name.endswith("loss")] == ["loss"]}
        logs = {run: log | {"hard_loss": log["loss"]} if run in plain else log for run, log in logs.items()}
    figure, axes, rows = _by_run(logs, {name: RATES.get(name) or _words(name) for name in names}, "update")
    for axis, name in zip(axes, names, strict=True):
        if name in RATES:
            axis.yaxis.set_major_formatter(FuncFormatter(_rate))
            axis.set_ylim(bottom=0)
        else:
            log_scale(axis, [value for log in logs.values() for value in log.get(name, {}).values()])
    return figure, rows


def gates(runs: Runs) -> Picture | None:
    """Draw the mean opening of every gate over the updates, one panel per run; darker is lower in the teacher."""
    gated = {run: {str(layer): curve for layer, curve in openings_of(history).items()} for run, history in runs.items()}
    gated = {run: curves for run, curves in gated.items() if curves}
    if not gated:
        return None
    layers = sorted({layer for curves in gated.values() for layer in curves}, key=int)
    tones = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(layers)))
    looks = {layer: look(index) | {"color": tones[index], "linestyle": "-"} for index, layer in enumerate(layers)}
    figure, axes = panels(len(gated), looks, "gate of teacher layer", sharey=True)
    for axis, (run, curves) in zip(axes, gated.items(), strict=True):
        axis.axhline(0.5, color="0.6", linewidth=0.8)
        draw_curves(axis, curves, looks)
        axis.set_title(textwrap.fill(run, 36))
    openings = [g for curves in gated.values() for curve in curves.values() for g in curve.values()]
    reach = max(0.05, *(abs(g - 0.5) * 1.15 for g in openings))  # a gate that hardly moves looks that way
    axes[0].set_ylim(max(0.0, 0.5 - reach), min(1.0, 0.5 + reach))
    figure.supxlabel("update")
    figure.supylabel("mean opening")
    return figure, _rows({run: {f"gate_{layer}": curves[layer] for layer in curves} for run, curves in gated.items()})


def shares(runs: Runs) -> Picture | None:
    """Draw the share of every teacher layer in the target of every student layer, see `target_shares`."""
    title = "Share of the teacher layers in each student layer's target, %\n(product of the gates' mean openings)"
    return _heat_maps({name: target_shares(run) for name, run in runs.items()}, title)


def attention(runs: Runs) -> Picture | None:
    """Draw the mean attention of every student layer on every teacher layer, see `attention_weights`."""
    title = "Attention of each student layer on the teacher layers, %\n(mean over the last log window)"
    return _heat_maps({name: attention_weights(run) for name, run in runs.items()}, title)


def scores(runs: Runs) -> Picture | None:
    """Draw every metric of every split over the checkpoints; the loss only where there is no metric."""
    found = dict.fromkeys(name for run in runs.values() for name in run.scores)
    names = [name for name in found if not name.endswith("/loss")] or list(found)
    if not names:
        return None
    titles = {name: " on ".join(map(_words, reversed(name.split("/", 1)))) for name in names}
    figure, _, rows = _by_run({name: run.scores for name, run in runs.items()}, titles, "update of the checkpoint")
    return figure, rows


def spread(runs: Runs) -> Picture | None:
    """Draw how much the targets of different tokens differ, relative to their size; 0 if they have collapsed."""
    if not any("target_spread" in run.log for run in runs.values()):
        return None
    title = {"target_spread": "spread of the targets, relative to their size; 0: all tokens alike"}
    figure, (axis,), rows = _by_run({name: run.log for name, run in runs.items()}, title, "update")
    axis.set_ylim(bottom=0)
    return figure, rows


PICTURES: dict[str, Callable[[Runs], Picture | None]] = {
    "losses": losses, "gates": gates, "shares": shares, "attention": attention, "scores": scores, "spread": spread,
}  # fmt: skip


def _by_run(
    logs: Mapping[str, Mapping[str, Curve]], titles: Mapping[str, str], xlabel: str
) -> tuple[Figure, list[Axes], Rows]:
    """Draw one panel per name in `titles`, with one curve per run, which looks the same in all pictures."""
    logs = {run: {name: log[name] for name in titles if name in log} for run, log in logs.items()}
    looks = {run: look(index) for index, (run, log) in enumerate(logs.items()) if log}
    figure, axes = panels(len(titles), looks)
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        draw_curves(axis, {run: log[name] for run, log in logs.items() if name in log}, looks)
        axis.set_title(title)
    figure.supxlabel(xlabel)
    return figure, axes, _rows(logs)


def _heat_maps(maps: Mapping[str, tuple[int, Shares]], title: str) -> Picture | None:
    """Draw one map per run, student layers upwards, teacher layers to the right; a blank cell takes no part."""
    maps = {name: found for name, found in maps.items() if found[1]}
    if not maps:
        return None
    cells = [(name, *cell) for name, (_, found) in maps.items() for cell in cells_of(found)]
    widest = max(teacher for _, _, teacher, _ in cells)
    columns = min(len(maps), 1 if widest > 14 else 2)
    counts = [max(found) for _, found in maps.values()]
    heights = [max(3, *counts[at : at + columns]) * 0.21 + 0.1 for at in range(0, len(counts), columns)]
    size = (WIDTH if len(maps) > 1 or widest > 14 else 0.7 * WIDTH, sum(heights) + 0.4 * len(heights) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(heights), columns, height_ratios=heights, squeeze=False)
    top = max(share for *_, share in cells)
    for axis, (name, (step, found)) in zip(axes.flat, maps.items(), strict=False):
        image = draw_shares(axis, found, top)
        axis.set_title(textwrap.fill(f"{name}, update {step}", 50))
    for spare in axes.flat[len(maps) :]:
        spare.remove()
    figure.colorbar(image, ax=list(axes.flat[: len(maps)]), aspect=size[1] / 0.1, pad=0.02)
    figure.suptitle(title)
    figure.supxlabel("teacher layer")
    figure.supylabel("student layer")
    return figure, [("run", "student_layer", "teacher_layer", "share"), *cells]


def _rows(curves: Mapping[str, Mapping[str, Curve]]) -> Rows:
    """Write curves by run and name in long form."""
    found = [(run, name, curve) for run, named in curves.items() for name, curve in named.items()]
    cells = [(run, step, name, value) for run, name, curve in found for step, value in curve.items()]
    return [("run", "step", "name", "value"), *cells]


def _rate(value: float, _: object) -> str:
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"


def _words(name: str) -> str:
    return name.replace("_", " ")
