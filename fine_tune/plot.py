"""Pictures of a run, from its `metrics.jsonl`: losses, and how far each gate lets its teacher layer through."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
MARKERS = "osD^vPX"


def read_metrics(run: Path) -> dict[str, list[float]]:
    """Read the log of a run, one list per scalar.

    Raises:
        ValueError: There is no log, or it is empty.
    """
    file = run / "metrics.jsonl"
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    if not entries:
        raise ValueError(f"{file}: no log entries; is this the folder of a training run?")
    return {name: [entry[name] for entry in entries] for name in entries[0]}


def plot_losses(runs: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Draw every loss of every run over its updates, one panel per loss (log scale)."""
    names = [
        name for name in ("loss", "soft_loss", "hard_loss", "hidden_loss") if any(name in m for m in runs.values())
    ]
    figure, axes = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3.2), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for colour, marker, (run, metrics) in zip(COLOURS, MARKERS, runs.items(), strict=False):
            # Fine-tuning has one loss, that of the gold labels: it belongs beside the hard losses.
            shown = "loss" if name == "hard_loss" and name not in metrics else name
            if shown in metrics:
                _line(axis, metrics["step"], metrics[shown], run, colour, marker)
        axis.set(title=name.replace("_", " "), xlabel="update", yscale="log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.legend(fontsize="small", frameon=False)
    axes[0][0].set_ylabel("mean since the last entry")
    figure.savefig(file, dpi=150)
    plt.close(figure)


def gate_names(metrics: dict[str, list[float]]) -> list[str]:
    """Names of the gates in a log, `gate_2`, .. in the order of their teacher layers."""
    return [name for name in metrics if name.removeprefix("gate_").isdigit()]


def plot_gates(metrics: dict[str, list[float]], run: str, file: Path) -> None:
    """Draw the mean opening of every gate over the updates."""
    gates = gate_names(metrics)
    figure, axis = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for index, name in enumerate(gates):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        _line(axis, metrics["step"], metrics[name], name.removeprefix("gate_"), colour, marker)
    axis.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
    axis.set(title=f"{run}: opening of the gates", xlabel="update", ylabel="share of the teacher layer let through")
    axis.set_ylim(*_limits([value for name in gates for value in metrics[name]]))
    axis.legend(title="teacher layer", fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _line(axis: Axes, x: list[float], y: list[float], label: str, colour: str, marker: str) -> None:
    axis.plot(
        x, y, color=colour, marker=marker, markersize=4, markevery=max(1, len(x) // 8), linewidth=1.4, label=label
    )
    axis.spines[["top", "right"]].set_visible(False)


def _limits(values: list[float]) -> tuple[float, float]:
    """Show a range around the middle that holds all values, so that a gate that hardly moves looks that way."""
    reach = max(0.05, *(abs(value - 0.5) * 1.15 for value in values))
    return max(0.0, 0.5 - reach), min(1.0, 0.5 + reach)
