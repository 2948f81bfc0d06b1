"""What gates do, and how much of every teacher layer is in the target of every student layer, from a run's log.

Layers are 1-based here, as users see them; teacher layer 0 is the embedding output.
"""

import re
import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import torch

from fine_tune.layer_map import uniform_layer_map
from fine_tune.model.gate import fold, mix
from fine_tune.plot.style import Picture, Shares, draw_by_run, draw_curves, draw_heat_maps, look, panels, rows_of
from fine_tune.run.history import Curve, History


def openings_of(run: History) -> dict[int, Curve]:
    """Give the mean openings of every gate by teacher layer, in the order of the layers."""
    found = {int(name[5:]): curve for name, curve in run.log.items() if re.fullmatch(r"gate_\d+", name)}
    return dict(sorted(found.items()))


def chain_shares(openings: Mapping[int, float], reverse: bool = False) -> Shares:
    """Share of every teacher layer in every aggregate of a chain of gates: what the gates fold, norms left out.

    Args:
        openings: Of the gates, in 0..1, by teacher layer, for all layers of the chain but its first.
        reverse: The chain runs from the last layer down.
    """
    order = sorted(openings, reverse=reverse)
    order.insert(0, order[0] + (1 if reverse else -1))
    alone = dict(zip(order, torch.eye(len(order), dtype=torch.float64), strict=True))
    aggregates = fold(order, alone, lambda layer, so_far, own: mix(so_far, own, opening(openings[layer])))
    return {
        layer: dict(zip(order[: number + 1], shares.tolist(), strict=False))
        for number, (layer, shares) in enumerate(aggregates.items())
    }


def pair_shares(openings: Mapping[int, float]) -> Shares:
    """Share of the two teacher layers that each gate of LAD-NO mixes: its own, and the one below."""
    below, own = torch.eye(2, dtype=torch.float64)
    return {
        layer: dict(zip((layer - 1, layer), mix(below, own, opening(g)).tolist(), strict=True))
        for layer, g in openings.items()
    }


def opening(g: float) -> torch.Tensor:
    """Make a gate's mean opening a tensor."""
    return torch.tensor(g, dtype=torch.float64)


def target_shares(run: History) -> tuple[int, Shares]:
    """Share of every teacher layer in the target of every student layer, at the last log entry with gates.

    This is an approximation: a gate opens differently for each token and component, and the product of mean openings
    is not the mean of their product; the layer norm after each gate, which scales and shifts, is left out.

    Returns:
        The update, and the shares, which sum to 1 in each student layer; nothing for a run without gates.

    Raises:
        ValueError: The gates are not those of a chain, or do not fit the layers that the configuration names.
    """
    step, openings = _last(openings_of(run))
    if not openings:
        return step, {}
    reverse, method = bool(run.config.get("reverse_gate")), run.config.get("method")
    layers = list(openings)
    unbroken = layers == list(range(layers[0] if reverse else 2, layers[-1] + 1))
    is_chain = method != "lad_no" if method else unbroken
    if is_chain and not unbroken:
        raise ValueError(f"{run.folder}: a chain has a gate for every layer but its first, metrics.jsonl {layers}")
    mixed = chain_shares(openings, reverse) if is_chain else pair_shares(openings)
    shares = {}
    for student, teacher in sorted(_layer_map(run, layers[-1] + int(is_chain and reverse)).items()):
        if teacher not in mixed and method != "partial_lad":
            raise ValueError(
                f"{run.folder}: student layer {student} follows teacher layer {teacher} (config.json), but the gates "
                f"in metrics.jsonl are of layers {', '.join(map(str, layers))}"
            )
        shares[student] = mixed.get(teacher, {teacher: 1.0})
    return step, shares


def attention_weights(run: History) -> tuple[int, Shares]:
    """Mean attention of every student layer on every teacher layer over the last log window, ALP-KD's `attn_L_I`.

    Returns:
        The update, and the weights; nothing for a run without attention.
    """
    found = [(re.fullmatch(r"attn_(\d+)_(\d+)", name), curve) for name, curve in run.log.items()]
    step, weights = _last({(int(match[1]), int(match[2])): curve for match, curve in found if match})
    shares: Shares = {}
    for (student, teacher), weight in sorted(weights.items()):
        if weight:
            shares.setdefault(student, {})[teacher] = weight
    return step, shares


def _last(curves: Mapping[Any, Curve]) -> tuple[int, dict[Any, float]]:
    """Give the last update of the curves, and their values there."""
    step = max((max(curve) for curve in curves.values()), default=0)
    return step, {key: curve[step] for key, curve in curves.items() if step in curve}


def _layer_map(run: History, teacher_layers: int) -> dict[int, int]:
    """Give the teacher layer of each student layer: the configuration's `layer_map`, else the even map."""
    text = run.config.get("layer_map")
    if text is None:
        students = run.config.get("num_hidden_layers")
        if not isinstance(students, int) or not 1 <= students <= teacher_layers:
            raise ValueError(
                f"{run.folder}/config.json: has no layer_map, so it needs num_hidden_layers in 1..{teacher_layers} "
                f"for the shares of the teacher layers, got {students}"
            )
        return {student + 1: layer + 1 for student, layer in uniform_layer_map(teacher_layers, students).items()}
    if not re.fullmatch(r"\d+:\d+(,\d+:\d+)*", str(text)):
        raise ValueError(f"{run.folder}/config.json: layer_map must be like 2:1,4:2 (teacher:student), got {text!r}")
    return {int(student): int(teacher) for teacher, student in (pair.split(":") for pair in text.split(","))}


def gates(runs: Mapping[str, History]) -> Picture | None:
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
    return figure, rows_of({run: {f"gate_{layer}": curves[layer] for layer in curves} for run, curves in gated.items()})


def shares(runs: Mapping[str, History]) -> Picture | None:
    """Draw the share of every teacher layer in the target of every student layer, see `target_shares`."""
    title = "Share of the teacher layers in each student layer's target, %\n(product of the gates' mean openings)"
    return draw_heat_maps({name: target_shares(run) for name, run in runs.items()}, title)


def attention(runs: Mapping[str, History]) -> Picture | None:
    """Draw the mean attention of every student layer on every teacher layer, see `attention_weights`."""
    title = "Attention of each student layer on the teacher layers, %\n(mean over the last log window)"
    return draw_heat_maps({name: attention_weights(run) for name, run in runs.items()}, title)


def spread(runs: Mapping[str, History]) -> Picture | None:
    """Draw how much the targets of different tokens differ, relative to their size; 0 if they have collapsed."""
    if not any("target_spread" in run.log for run in runs.values()):
        return None
    title = {"target_spread": "spread of the targets, relative to their size; 0: all tokens alike"}
    figure, (axis,), rows = draw_by_run({name: run.log for name, run in runs.items()}, title, "update")
    axis.set_ylim(bottom=0)
    return figure, rows


PICTURES = {"gates": gates, "shares": shares, "attention": attention, "spread": spread}
