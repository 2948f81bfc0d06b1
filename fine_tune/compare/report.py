"""The report of a suite: `report.md`, `report.csv` (rows), `pairs.csv`, `report.png`.

Scores are shown in points (x 100), as GLUE shows them; the CSV files hold plain values.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fine_tune.compare.results import Results
from fine_tune.compare.statistics import mean_and_sd
from fine_tune.compare.suite import TEACHER
from fine_tune.files import markdown, write_csv, write_text, write_whole
from fine_tune.plot.style import COLOURS, WIDTH

Table = list[dict[str, Any]]
Speed = Mapping[str, Mapping[str, Any]]
"""By row: `parameters`, and `milliseconds` per sentence."""

READING = """\
Scores and differences are in points (x 100). Scores: mean ± standard deviation over seeds, and the 95 % interval of
the mean. Intervals and p: paired bootstrap in which {drawn} drawn anew, the same for both sides; p is
two-sided. Holm: the same p, adjusted so that among all pairs the chance of any false positive stays at the level.
McNemar: exact p of each seed's two runs; it sees the noise of the rows only, and is not adjusted. Milliseconds: the
model alone, one sentence at a time, in float32."""
SEEDS_DRAWN = "seeds (one fewer than there are, with replacement) and rows of the split are"
ONE_SEED = "only the rows of the split are (with one seed two runs are compared, not two methods)"


def write_report(folder: Path, name: str, results: Results, speed: Speed, facts: Mapping[str, str]) -> None:
    """Write all files of the report.

    Args:
        folder: Where to.
        name: Name of the suite.
        results: What was found.
        speed: Size and time of the rows, as far as known.
        facts: What the results depend on, by name.
    """
    write_csv(folder / "report.csv", pd.DataFrame(row_table(results, speed), dtype=object))
    write_csv(folder / "pairs.csv", pd.DataFrame(pair_table(results), dtype=object))
    write_whole(folder / "report.png", partial(chart(results).savefig, format="png"))
    lines = [f"# {name}: {results.task.name} {results.split}, {results.rows} rows", ""]
    lines += [f"* {fact}: {value}" for fact, value in facts.items()]
    lines += ["", "## Scores", "", *markdown(score_cells(results, speed))]
    lines += ["", f"## Every pair, by {results.task.metrics[0]}", "", *markdown(pair_cells(results))]
    lines += ["", f"![{results.task.metrics[0]} of every row](report.png)", ""]
    lines += [READING.format(drawn=SEEDS_DRAWN if len(results.seeds) > 1 else ONE_SEED), ""]
    write_text(folder / "report.md", "\n".join(lines))


def row_table(results: Results, speed: Speed) -> Table:
    """Give the plain values of every row."""
    deciding, table = results.task.metrics[0], []
    for row, scores in results.scores.items():
        cells: dict[str, Any] = {"row": row}
        for name, values in scores.items():
            cells[name], cells[f"{name}_sd"] = mean_and_sd(values)
        cells[f"{deciding}_low"], cells[f"{deciding}_high"] = results.interval[row]
        cells |= {
            f"{deciding}_seed_{seed}": value for seed, value in zip(results.seeds, results.by_seed(row), strict=True)
        }
        cells["of_teacher"] = results.kept(row)
        cells |= {name: speed.get(row, {}).get(name) for name in ("parameters", "milliseconds")}
        table.append(cells)
    return table


def pair_table(results: Results) -> Table:
    """Give the plain values of every pair."""
    table = []
    for pair in results.pairs:
        cells = pair._asdict()
        by_seed = zip(results.seeds, cells.pop("mcnemar_p"), strict=False)  # none for a regression
        table.append(cells | {f"mcnemar_p_seed_{seed}": p for seed, p in by_seed})
    return table


def unknown(value: Any) -> bool:
    """Whether there is no such value."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def score_cells(results: Results, speed: Speed) -> list[list[str]]:
    """Give the cells of the rows, the header first."""
    deciding, *others = results.task.metrics
    by_seed = [f"seed {seed}" for seed in results.seeds]
    cells = [["row", deciding, "95 % interval", *by_seed, *others, "of the teacher", "parameters", "ms/sentence"]]
    for row, scores in results.scores.items():
        size, time = (speed.get(row, {}).get(name) for name in ("parameters", "milliseconds"))
        low, high = results.interval[row]
        cells.append(
            [
                row,
                mean_sd(scores[deciding]),
                f"{points(low)} to {points(high)}",
                *(points(value) for value in results.by_seed(row)),
                *(mean_sd(scores[name]) for name in others),
                "-" if unknown(results.kept(row)) else f"{100 * results.kept(row):.1f} %",
                f"{size / 1e6:.1f} M" if size else "-",
                f"{time:.2f}" if time else "-",
            ]
        )
    return cells


def pair_cells(results: Results) -> list[list[str]]:
    """Give the cells of the pairs, the header first."""
    seeds = ", ".join(map(str, results.seeds))
    cells = [["pair", "difference", "95 % interval", "p", "p (Holm)", f"p (McNemar), seeds {seeds}"]]
    for pair in results.pairs:
        interval = f"{points(pair.low, '+')} to {points(pair.high, '+')}"
        mcnemar = ", ".join(map(p_text, pair.mcnemar_p)) or "-"
        tests = [p_text(pair.p), p_text(pair.holm_p), mcnemar]
        cells.append([f"{pair.one} - {pair.other}", points(pair.difference, "+"), interval, *tests])
    return cells


def points(value: float, sign: str = "") -> str:
    """Write a score in points."""
    return f"{100 * value:{sign}.2f}"


def mean_sd(values: Sequence[float]) -> str:
    """Write mean and standard deviation in points."""
    mean, sd = mean_and_sd(values)
    return points(mean) if unknown(sd) else f"{points(mean)} ± {points(sd)}"


def p_text(p: float) -> str:
    """Write a p."""
    return "< 0.0005" if p < 5e-4 else f"{p:.3f}"


def chart(results: Results) -> Figure:
    """Draw the mean of every student as a bar with its interval, its seeds as dots, and the teacher as a line."""
    students = [row for row in results.scores if row != TEACHER]
    figure = Figure(figsize=(0.75 * WIDTH, 0.95 + 0.27 * len(students)), layout="constrained")
    axis = figure.subplots()
    dots: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "markeredgecolor": "white", "linestyle": ""}
    shown = [results.interval[row] for row in students] + [(results.mean(TEACHER),) * 2]
    low, high = (100 * end(ends) for end, ends in zip((min, max), zip(*shown, strict=True), strict=True))
    left, right = low - 0.1 * (high - low + 1), high + 0.05 * (high - low + 1)
    left = max(left, 0) if low >= 0 else left
    for place, row in enumerate(students):
        mean, interval = 100 * results.mean(row), [100 * end for end in results.interval[row]]
        axis.barh(place, mean - left, left=left, height=0.66, color=COLOURS[5])
        axis.plot(interval, [place, place], color=COLOURS[6], marker="|", markersize=6)
        axis.plot([100 * score for score in results.by_seed(row)], [place] * len(results.seeds), **dots, markersize=5)
        text = mean_sd(results.scores[row][results.task.metrics[0]])
        axis.text(1.02, place, text, transform=axis.get_yaxis_transform(), va="center")
    axis.axvline(100 * results.mean(TEACHER), color=COLOURS[1], linestyle="--")
    axis.set(yticks=range(len(students)), yticklabels=students, xlim=(left, right), ylim=(len(students) - 0.5, -0.5))
    axis.tick_params(axis="y", length=0)
    note = "; the axis does not start at 0" if left else ""
    axis.set_xlabel(f"{results.task.metrics[0]} on {results.task.name} {results.split}, points{note}")
    axis.text(1.02, -0.8, "mean ± sd", transform=axis.get_yaxis_transform(), va="center", color="0.4")
    looks = [
        Line2D([], [], color=COLOURS[1], linestyle="--", label=f"teacher, {points(results.mean(TEACHER))}"),
        Line2D([], [], color=COLOURS[6], marker="|", markersize=6, label="95 % interval of the mean"),
        Line2D([], [], label="one seed", **dots),
    ]
    figure.legend(handles=looks, loc="outside upper center", ncols=3)
    return figure
