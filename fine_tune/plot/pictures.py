"""Pictures of runs, each with the numbers behind it: losses and rates, scores, and those of `shares`."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.ticker import FuncFormatter

from fine_tune.files import write_csv, write_whole
from fine_tune.plot import shares
from fine_tune.plot.style import Picture, draw_by_run, log_scale, words
from fine_tune.run.history import History

LOSSES = ("loss", "soft_loss", "hard_loss", "hidden_loss")

Runs = Mapping[str, History]


def draw(runs: Runs, folder: Path) -> tuple[list[Path], list[Path]]:
    """Write every picture that the runs have data for, as PNG, with a CSV beside it.

    Returns:
        The files written, and stale ones of earlier calls, for which there is no data now.
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
    rates = {name: " of the ".join(["learning rate", *name.split("_")[:-1]]) for name in found if is_rate(name)}
    names = [*(name for name in (*LOSSES, *others) if name in found), *rates]
    if not names:
        return None
    if "hard_loss" in names:
        # Fine-tuning has one loss, that of the gold labels: it belongs beside the hard losses.
        plain = {run for run, log in logs.items() if [name for name in log if name.endswith("loss")] == ["loss"]}
        logs = {run: log | {"hard_loss": log["loss"]} if run in plain else log for run, log in logs.items()}
    figure, axes, rows = draw_by_run(logs, {name: rates.get(name) or words(name) for name in names}, "update")
    for axis, name in zip(axes, names, strict=True):
        if name in rates:
            axis.yaxis.set_major_formatter(FuncFormatter(_rate))
            axis.set_ylim(bottom=0)
        else:
            log_scale(axis, [value for log in logs.values() for value in log.get(name, {}).values()])
    return figure, rows


def scores(runs: Runs) -> Picture | None:
    """Draw every metric of every split over the checkpoints; the loss only where there is no metric."""
    found = dict.fromkeys(name for run in runs.values() for name in run.scores)
    names = [name for name in found if not name.endswith("/loss")] or list(found)
    if not names:
        return None
    titles = {name: " on ".join(map(words, reversed(name.split("/", 1)))) for name in names}
    figure, _, rows = draw_by_run({name: run.scores for name, run in runs.items()}, titles, "update of the checkpoint")
    return figure, rows


def is_rate(name: str) -> bool:
    """Whether a logged value is a learning rate, the student's or that of another part."""
    return name == "lr" or name.endswith("_lr")


def _rate(value: float, _: object) -> str:
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"


PICTURES: dict[str, Callable[[Runs], Picture | None]] = {"losses": losses, **shares.PICTURES, "scores": scores}
