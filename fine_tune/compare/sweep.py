"""Hyper-parameters chosen on held-out training rows: a grid per row of a suite, every point with every seed.

Students are trained on `train_fit`, and their last checkpoints scored on `train_select`; no dev split is read. The best
mean of the task's first metric wins, the earlier point in a tie.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml  # type: ignore[import-untyped]

from fine_tune.compare.score import score_slice, slice_scores
from fine_tune.compare.statistics import mean_and_sd
from fine_tune.compare.suite import LAST_ONLY, Row, Suite, plan_all, set_flag
from fine_tune.compare.train import make
from fine_tune.files import first_line, write_csv, write_json
from fine_tune.path import experiment_name

Grid = dict[str, dict[str, list[Any]]]
"""Values by row and flag."""


def read_grid(file: Path, rows: Sequence[Row]) -> Grid:
    """Read a YAML file: row -> flag -> list of values.

    Raises:
        ValueError: It is something else, or names a row that is not there.
    """
    try:
        grid: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--sweep {file}: not a YAML file: {first_line(error)}") from None
    names = [row.name for row in rows]
    for row, flags in grid.items() if isinstance(grid, dict) and grid else [("", None)]:
        if row not in names:
            raise ValueError(f"--sweep {file}: must map rows ({', '.join(names)}) to their flags, got {row!r}")
        if after := next(each.after for each in rows if each.name == row):
            raise ValueError(f"--sweep {file}: {row} goes on from {after}, which is made later; it cannot be swept")
        if not isinstance(flags, dict) or not flags:
            raise ValueError(f"--sweep {file}: {row} must map flags to lists of values, got {flags!r}")
        for key, values in flags.items():
            plain = isinstance(values, list) and all(isinstance(value, str | int | float) for value in values)
            if not plain or not values or len(set(map(str, values))) < len(values):
                raise ValueError(f"--sweep {file}: {row}, {key}: must be a list of different values, got {values!r}")
    return dict(grid)


def points(row: Row, flags: dict[str, list[Any]]) -> list[Row]:
    """Make a row of every point of a grid, in order; it is named after its values.

    Raises:
        ValueError: The row's script does not take a flag, or a value cannot stand in a name.
    """
    made = []
    for values in itertools.product(*flags.values()):
        point = dataclasses.replace(row, settings=dict(row.settings))
        for key, value in zip(flags, values, strict=True):
            point.name += f"+{key}={str(value).lower() if isinstance(value, bool) else value}"
            if value is False:
                point.settings.pop(key, None)
            elif not set_flag(point, key, "true" if value is True else str(value), f"--sweep, {row.name}"):
                raise ValueError(f"--sweep, {row.name}: its script has no flag --{key}")
        experiment_name(point.name, "", "", f"--sweep, {row.name}: values")
        made.append(point)
    return made


def sweep(suite: Suite, file: Path, lock: int) -> list[Row]:
    """Run the grids; give the suite's rows with the values that won, and write all points."""
    grid = read_grid(file, suite.rows)
    tried = {row.name: points(row, grid[row.name]) if row.name in grid else [] for row in suite.rows}
    runs = plan_all(suite, [point for made in tried.values() for point in made], LAST_ONLY)
    make(suite, runs, lock)
    score_slice(suite, runs, lock)
    metric = suite.task.metrics[0]
    scores: dict[str, list[float]] = {}
    for run in runs:  # seed by seed
        scores.setdefault(run.row.name, []).append(slice_scores(suite, run)[run.last_step][metric])
    best = {row: max(made, key=lambda point: mean_and_sd(scores[point.name])[0]) for row, made in tried.items() if made}
    report = [
        {
            "row": row,
            "point": point.name.removeprefix(f"{row}+"),
            **{f"{metric}_seed_{seed}": value for seed, value in zip(suite.seeds, scores[point.name], strict=True)},
            f"{metric}_mean": mean_and_sd(scores[point.name])[0],
            "chosen": point is best[row],
        }
        for row, made in tried.items()
        for point in made
    ]
    write_json(suite.folder / "sweep.json", report)
    write_csv(suite.folder / "sweep.csv", pd.DataFrame(report))
    return [
        dataclasses.replace(row, settings=best[row.name].settings) if row.name in best else row for row in suite.rows
    ]
