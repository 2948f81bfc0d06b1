"""What a run wrote down while it trained and was scored, and the shares of teacher layers in its targets.

A run's folder holds `metrics.jsonl` (one object per log entry), `config.json` and, once scored, `eval_SPLIT.json`.
Layers are 1-based here, as users see them; teacher layer 0 is the embedding output.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fine_tune.layer_map import uniform_layer_map
from fine_tune.path import read_json

Curve = dict[int, float]
"""Values by update."""
Shares = dict[int, dict[int, float]]
"""Shares by student layer and teacher layer; a teacher layer that cannot take part is absent."""


@dataclass
class History:
    """A run as its files tell it.

    Args:
        folder: The run's folder.
        log: Curves by the names in `metrics.jsonl`.
        config: What `config.json` holds; empty if there is none.
        scores: Curves over checkpoints by `SPLIT/METRIC`.
    """

    folder: Path
    log: dict[str, Curve] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Curve] = field(default_factory=dict)

    def gates(self) -> dict[int, Curve]:
        """Give the openings of every gate by teacher layer, in the order of the layers."""
        found = {int(name[5:]): curve for name, curve in self.log.items() if re.fullmatch(r"gate_\d+", name)}
        return dict(sorted(found.items()))


def read_runs(folders: Sequence[Path]) -> dict[str, History]:
    """Read runs by the names of their folders, or by the whole path where two folders share a name.

    Raises:
        ValueError: A folder is not that of a run, or one of its files is damaged.
    """
    paths = list(dict.fromkeys(folder.resolve() for folder in folders))
    names = [path.name for path in paths]
    return {
        name if names.count(name) == 1 else str(path): read_run(path) for name, path in zip(names, paths, strict=True)
    }


def read_run(folder: Path) -> History:
    """Read the files of one run.

    Raises:
        ValueError: There is neither a log nor a score, or a file is damaged.
    """
    run = History(folder, log=read_log(folder / "metrics.jsonl"))
    for file in sorted(folder.glob("eval_*.json")):
        run.scores |= read_scores(file)
    if not run.log and not run.scores:
        raise ValueError(f"{folder}: no log entries in metrics.jsonl, no eval_*.json; is this the folder of a run?")
    if (config := folder / "config.json").is_file():
        run.config = read_json(config)
    return run


def read_log(file: Path) -> dict[str, Curve]:
    """Read one curve per scalar; of two entries for an update the later one counts.

    Raises:
        ValueError: Naming the first line that is no entry.
    """
    log: dict[str, Curve] = {}
    lines = file.read_bytes().splitlines() if file.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            step = int(entry.pop("step"))
            values = {name: float(value) for name, value in entry.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            start = line[:60].decode(errors="replace")
            raise ValueError(f"{file}:{number}: not a log entry, an object with step and numbers: {start!r}") from None
        for name, value in values.items():
            log.setdefault(name, {})[step] = value
    return {name: dict(sorted(curve.items())) for name, curve in log.items()}


def read_scores(file: Path) -> dict[str, Curve]:
    """Read the scores of a split, one curve over the checkpoints per `SPLIT/METRIC`.

    Raises:
        ValueError: The file holds none.
    """
    scores: dict[str, Curve] = {}
    split, found = file.stem.removeprefix("eval_"), read_json(file)
    try:
        checkpoints = {int(step): values for step, values in found["checkpoints"].items()}
        for step in sorted(checkpoints):
            for name, value in checkpoints[step].items():
                scores.setdefault(f"{split}/{name}", {})[step] = float(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{file}: holds no scores by checkpoint; run run_fine_tune_eval.py again") from None
    return scores


def chain_shares(openings: Mapping[int, float], reverse: bool = False) -> Shares:
    """Share of every teacher layer in every aggregate of a chain of gates, a_i = g_i t_i + (1 - g_i) a_{i-1}.

    The share of t_j in a_i is g_j (1 - g_{j+1}) .. (1 - g_i), that of the first layer of the chain without its g.

    Args:
        openings: g in [0, 1] by teacher layer, for all layers of the chain but its first.
        reverse: The chain runs from the last layer down: a_i = g_i t_i + (1 - g_i) a_{i+1}.
    """
    order = sorted(openings, reverse=reverse)
    first = order[0] + (1 if reverse else -1)
    parts, aggregates = {first: 1.0}, {first: {first: 1.0}}
    for layer in order:
        g = openings[layer]
        parts = {other: (1 - g) * share for other, share in parts.items()} | {layer: g}
        aggregates[layer] = parts
    return aggregates


def pair_shares(openings: Mapping[int, float]) -> Shares:
    """Share of the two teacher layers that each gate of LAD-NO mixes: g of its own, 1 - g of the one below."""
    return {layer: {layer - 1: 1 - g, layer: g} for layer, g in openings.items()}


def target_shares(run: History) -> tuple[int, Shares]:
    """Share of every teacher layer in the target of every student layer, at the last log entry with gates.

    This is an approximation: a gate opens differently for each token and component, and the product of mean openings
    is not the mean of their product; the layer norm after each gate, which scales and shifts, is left out.

    Returns:
        The update, and the shares, which sum to 1 in each student layer; nothing for a run without gates.

    Raises:
        ValueError: The gates are not those of a chain, or do not fit the layers that the configuration names.
    """
    step, openings = _last(run.gates())
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
