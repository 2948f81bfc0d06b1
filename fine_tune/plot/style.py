"""The style of all pictures: panels below a legend, curves and heat maps in them.

A picture is 7 inches wide, the width of a page's text; its letters have 6.5 points and more. Colour-blind readers can
tell the colours apart, and no colour stands alone: curves have markers, cells have numbers.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from fine_tune.run.history import Curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette."""
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":", "-.")
WIDTH = 7.0
"""Inches."""
matplotlib.rcParams.update(
    {
        "font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
        "legend.fontsize": 7.5, "legend.title_fontsize": 7.5, "legend.frameon": False, "figure.labelsize": 8,
        "figure.titlesize": 8.5, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
        "axes.axisbelow": True, "grid.color": "0.9", "grid.linewidth": 0.5, "lines.linewidth": 1.1,
        "lines.markersize": 3.5, "savefig.dpi": 200,
    }
)  # fmt: skip

Shares = dict[int, dict[int, float]]
"""Shares by student layer and teacher layer; a teacher layer that cannot take part is absent."""
Rows = list[tuple[Any, ...]]
Picture = tuple[Figure, Rows]
"""A picture and the rows behind it, the names of the columns first."""
Looks = dict[str, dict[str, Any]]
"""How the curves of the legend look, by their labels."""


def look(index: int) -> dict[str, Any]:
    """Pick colour, marker and dashes of curve `index`; they repeat after 28."""
    again = index // len(COLOURS)
    marker = MARKERS[(index + again) % len(MARKERS)]
    return {"color": COLOURS[index % len(COLOURS)], "marker": marker, "linestyle": DASHES[again % len(DASHES)]}


def panels(count: int, looks: Looks, legend: str | None = None, **options: Any) -> tuple[Figure, list[Axes]]:
    """Make `count` panels below a legend of `looks` with the title `legend`."""
    columns = 2 if count == 4 else min(count, 3)
    rows = math.ceil(count / columns)
    width, height = (WIDTH, 1.7 * rows) if count > 1 else (0.7 * WIDTH, 2.3)
    fit = max(1, int(width / (0.5 + 0.06 * max(map(len, looks)))))
    lines = math.ceil(len(looks) / fit)
    figure = Figure(figsize=(width, height + 0.16 * (lines + bool(legend)) + 0.2), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for spare in axes.flat[count:]:
        spare.remove()
    handles = [Line2D([], [], label=name, **style) for name, style in looks.items()]
    figure.legend(handles=handles, title=legend, loc="outside upper center", ncols=math.ceil(len(looks) / lines))
    return figure, list(axes.flat[:count])


def draw_curves(axis: Axes, curves: Mapping[str, Curve], looks: Looks) -> None:
    """Draw curves by their names in the legend; a single value is a point."""
    for index, (name, style) in enumerate(looks.items()):
        if curve := curves.get(name):
            every = max(1, len(curve) // 6)
            axis.plot(list(curve), list(curve.values()), markevery=(index % every, every), **style)
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.grid(axis="y")


def log_scale(axis: Axes, values: Iterable[float]) -> None:
    """Scale an axis of losses; a range below a factor of 5 keeps evenly spaced ticks, or it might have none."""
    positive = [value for value in values if value > 0]
    if not positive:
        return
    axis.set_yscale("log")
    narrow = max(positive) < 5 * min(positive)
    axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]) if narrow else LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator() if narrow else LogLocator(subs="all"))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def cells_of(found: Shares) -> list[tuple[int, int, float]]:
    """List the cells of a heat map: student layer, teacher layer, share."""
    return [(student, teacher, row[teacher]) for student, row in sorted(found.items()) for teacher in sorted(row)]


def draw_shares(axis: Axes, found: Shares, top: float) -> AxesImage:
    """Draw shares as percentages with two digits; `top` is the share of the brightest colour."""
    low = min(1, *(teacher for _, teacher, _ in cells_of(found)))
    high, count = max(teacher for _, teacher, _ in cells_of(found)), max(found)
    grid = np.full((count, high - low + 1), np.nan)
    for student, teacher, share in cells_of(found):
        grid[student - 1, teacher - low] = 100 * share
        text = "0" if share < 5e-4 else f"{100 * share:.{int(share < 0.0995)}f}"
        colour = "black" if share > 0.5 * top else "white"
        axis.text(teacher - low, student - 1, text, ha="center", va="center", fontsize=6.5, color=colour)
    image = axis.imshow(grid, cmap="cividis", vmin=0, vmax=100 * top, origin="lower", aspect="auto")
    axis.set_xticks(range(high - low + 1), ["emb" if layer == 0 else str(layer) for layer in range(low, high + 1)])
    axis.set_yticks(range(count), [str(layer) for layer in range(1, count + 1)])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return image


def draw_by_run(
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
    return figure, axes, rows_of(logs)


def draw_heat_maps(maps: Mapping[str, tuple[int, Shares]], title: str) -> Picture | None:
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


def rows_of(curves: Mapping[str, Mapping[str, Curve]]) -> Rows:
    """Write curves by run and name in long form."""
    found = [(run, name, curve) for run, named in curves.items() for name, curve in named.items()]
    cells = [(run, step, name, value) for run, name, curve in found for step, value in curve.items()]
    return [("run", "step", "name", "value"), *cells]


def words(name: str) -> str:
    """Write a name as words."""
    return name.replace("_", " ")
