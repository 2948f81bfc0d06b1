"""A picture of runs in all their forms: score against time per sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import LogLocator, NullFormatter

from fine_tune.plot.style import COLOURS, MARKERS, Looks, Picture, panels, words

NAME = {"torch": "PyTorch", "onnx": "ONNX", "int8": "ONNX, int8"}


def speed(table: Sequence[Mapping[str, Any]], metric: str) -> Picture:
    """Draw a point for each run and form: colours tell runs apart, markers forms.

    Args:
        table: Rows with `run`, `format`, `p50_ms_1` and the metric.
        metric: What is drawn upwards.
    """
    runs, forms = (list(dict.fromkeys(row[name] for row in table)) for name in ("run", "format"))
    labels = {(row["run"], row["format"]): f"{row['run']}, {NAME[row['format']]}" for row in table}
    looks: Looks = {
        label: {
            "color": COLOURS[runs.index(run) % len(COLOURS)],
            "marker": MARKERS[(forms.index(form) if len(forms) > 1 else runs.index(run)) % len(MARKERS)],
            "linestyle": "",
            "markersize": 5,
        }
        for (run, form), label in labels.items()
    }
    figure, (axis,) = panels(1, looks)
    for row in table:
        axis.plot([row["p50_ms_1"]], [row[metric]], **looks[labels[row["run"], row["format"]]])
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(0.15)
    axis.grid()
    axis.set_xlabel("ms per sentence, median of single sentences")
    axis.set_ylabel(words(metric))
    columns = ("run", "format", "p50_ms_1", metric)
    return figure, [columns, *(tuple(row[name] for name in columns) for row in table)]
