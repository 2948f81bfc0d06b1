"""The style of all pictures: panels below a legend, curves and heat maps in them.

A picture is 7 inches wide, the width of a page's text; its letters have 6.5 points and more. Colour-blind readers can
tell the colours apart, and no colour stands alone: curves have markers, cells have numbers.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from fine_tune.plot.shares import Shares
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

Looks = dict[str, dict[str, Any]]
"""How the curves of the legend look, by their labels."""


def look(index: int) -> dict[str, Any]:
    """Give curve `index` its look; colour, marker and dashes together repeat after 28."""
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
