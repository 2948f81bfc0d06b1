"""What a run wrote down while it trained and was scored.

A run's folder holds `metrics.jsonl` (one object per log entry), `config.json` and, once scored, `eval_SPLIT.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fine_tune.files import read_json

Curve = dict[int, float]
"""Values by update."""


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
