"""The beginning of a training run, once everything is built: checks, folder, state, log."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from fine_tune.data.tokens import Split
from fine_tune.flags.option import Flags
from fine_tune.flags.shared import Pace, RunConfig, StepConfig
from fine_tune.model.classifier import Classifier
from fine_tune.path import log_dir, run_dir
from fine_tune.run import build, preflight
from fine_tune.run import folder as run
from fine_tune.run.dry_run import DryRun
from fine_tune.run.optim import Updater
from fine_tune.run.session import TrainLog
from fine_tune.run.state import Snapshot


class Built(NamedTuple):
    """What a run trains, and what its result depends on.

    Attributes:
        model: The classifier that checkpoints hold.
        tokenizer: Its tokenizer.
        trained: All modules that learn, not wrapped for several processes.
        updater: Of those.
        rows: The rows to train on.
        places: Where every model lives.
        made_from: What else the result depends on, by name.
        beside: Further configurations, by the names of their files.
    """

    model: Classifier
    tokenizer: PreTrainedTokenizerFast
    trained: Sequence[nn.Module]
    updater: Updater
    rows: Split
    places: Mapping[str, torch.device]
    made_from: Mapping[str, Any] = MappingProxyType({})
    beside: Mapping[str, dict[str, Any]] = MappingProxyType({})


def begin(flags: Flags, values: dict[str, Any], argv: list[str], built: Built) -> TrainLog:
    """Create a run's folder, or find that of a run that goes on, and open its log; `--dry_run` creates nothing.

    Args:
        flags: The script's flags, resolved.
        values: The configuration to save.
        argv: The command.
        built: What was built.

    Raises:
        ValueError: The run does not fit on the disk, or goes on with other things than it began with.
        OSError: The folder is not free.
    """
    cfg, pace, total = flags[RunConfig], flags[Pace], flags[StepConfig].total_step
    assert total is not None
    if cfg.preflight:
        preflight.check_disk(cfg, pace, total, built.trained)
    locate = partial(build.row_ids, cfg, built.rows)
    if cfg.dry_run:
        size = preflight.disk_use(pace, total, built.trained) / 1e9
        facts = {"rows": len(built.rows), "tokens": int(built.rows.offsets[-1]), "disk": f"at most {size:.2f} GB"}
        return DryRun(run_dir(cfg.experiment, cfg.model, cfg.task), total, facts, locate)
    places = {name: str(device) for name, device in built.places.items()}
    made_from = {**built.made_from, "data": built.rows.key}
    configs = {"config.json": values, **built.beside}
    folder = run.start_run(cfg, configs, built.model, built.tokenizer, places, argv, made_from)
    where, snapshot = log_dir(cfg.experiment, cfg.model, cfg.task), Snapshot(folder, built.trained, built.updater)
    return TrainLog(folder, where, pace, total, snapshot, locate)


def finish(log: TrainLog) -> None:
    """Note the end of a run."""
    if not isinstance(log, DryRun):
        with log.telling():
            run.finish_run(log.run_dir)
