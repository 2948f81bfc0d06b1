"""How a run of the GloVe document starts: what it reads, where it is kept, the session and its epochs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from fine_tune.data.batches import batch_rows, updates
from fine_tune.data.tokens import Split
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import OptimConfig, Pace, PrecisionConfig, SpeedConfig
from fine_tune.glove.artefacts import point, settings_digest
from fine_tune.glove.epochs import Epochs, validate
from fine_tune.glove.flags import TrainConfig
from fine_tune.glove.teacher import RUN
from fine_tune.hardware import rank
from fine_tune.hardware.device import home_device
from fine_tune.hardware.precision import resolve_precision
from fine_tune.hardware.seed import own_dropout
from fine_tune.model.checkpoint import pick_checkpoint
from fine_tune.model.classifier import Classifier
from fine_tune.model.placement import place
from fine_tune.run import memory, preflight
from fine_tune.run.folder import Contents, open_folder
from fine_tune.run.optim import Part, Updater
from fine_tune.run.process import print_table
from fine_tune.run.session import Session, Work
from fine_tune.run.state import Snapshot
from fine_tune.tasks.table import Task

NEVER = 10**9
NEUTRAL = {
    "save_path",
    "device",
    "log_dir",
    "overwrite",
    "local_rank",
    "eval_batch_size",
    "bert_output_dir",
    "data_dir",
}
"""Flags without a bearing on what is trained."""


class Home(NamedTuple):
    """Where a run is; started again with the same settings, it continues."""

    experiment: str
    folder: Path
    overwrite: bool
    resume: bool


class Material(NamedTuple):
    """What a run trains, and on what.

    Attributes:
        model: The model.
        tokenizer: Cuts its text.
        train: The rows to train on.
        valid: Rows with gold labels.
        task: Stands for the rows: its classes.
        kind: Name of the model's architecture.
        facts: What else decides the result: settings of the model, digests of what is read.
    """

    model: Classifier
    tokenizer: PreTrainedTokenizerFast
    train: Split
    valid: Split
    task: Task
    kind: str
    facts: Mapping[str, Any]

    @property
    def soft(self) -> bool:
        """Whether the rows to train on have logits."""
        assert self.train.label is not None
        return self.train.label.ndim == 2


def device_of(name: str | None) -> torch.device:
    """Turn `cuda`, `cuda:1`, `cpu` or None into a device.

    Raises:
        ValueError: There is no such device.
    """
    if name is None:
        return home_device(None, flag="--device")
    kind, _, number = name.partition(":")
    if kind not in ("cuda", "cpu") or (number and not number.isdecimal()) or (number and kind == "cpu"):
        raise ValueError(f"--device {name!r}: give cuda, cuda:<number> or cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: torch sees no GPU here; leave the flag out, or give --device cpu")
    return home_device(-1 if kind == "cpu" else int(number or 0), flag="--device")


def check_processes(cfg: TrainConfig) -> None:
    """Refuse flags of processes that are not there.

    Raises:
        ValueError: They are not.
    """
    if cfg.world_size not in (1, rank.world_size()) or cfg.local_rank not in (0, rank.local_rank()):
        raise ValueError(
            f"--world_size {cfg.world_size} --local_rank {cfg.local_rank}: this is process {rank.rank()} of "
            f"{rank.world_size()}; torchrun --nproc_per_node {cfg.world_size} train.py .. starts them"
        )


def home_of(flags: Flags, material: Material, parent: Path, name: str) -> Home:
    """Give a run a folder of its own, named by all that decides its result."""
    settings = {key: value for key, value in flags.values().items() if key not in NEUTRAL}
    known = settings_digest(settings | dict(material.facts))
    experiment = f"{name}-{known}"
    return Home(experiment, parent / experiment / RUN, flags[TrainConfig].overwrite, not flags[TrainConfig].overwrite)


def start(flags: Flags, material: Material, home: Home, device: torch.device) -> tuple[Session, Epochs]:
    """Open the session of a run, new or continued.

    Raises:
        ValueError: The precision asked for is not to be had, or there is not enough memory or disk.
        OSError: The folder is not free.
    """
    cfg, model = flags[TrainConfig], material.model
    precision = PrecisionConfig(precision=resolve_precision(None, cfg.use_amp, device), amp=cfg.use_amp)
    sized = Flags({PrecisionConfig: precision, SpeedConfig: SpeedConfig()})
    place(model, device, sized)
    micro_batches = batch_rows(material.train.lengths, cfg.batch_size, cfg.seed, 0)
    rows_at_once = cfg.batch_size * cfg.gradient_accumulation_steps * rank.world_size()
    per_epoch = -(-len(material.train) // rows_at_once)
    total, warm = per_epoch * cfg.epoch, per_epoch * cfg.warmup_epoch
    score = partial(validate, model, material.valid, cfg.eval_batch_size, device)
    epochs = Epochs(cfg, per_epoch, model, score, home.folder)
    optimiser = OptimConfig(lr=cfg.lr, eps=cfg.adam_epsilon, weight_decay=cfg.weight_decay, max_norm=cfg.max_grad_norm)
    schedule = None if cfg.use_transformers_optimizer else epochs.factor
    updater = Updater({"": Part([model], optimiser, total, warm, schedule=schedule)}, precision.precision == "fp16")

    def batches(done: int) -> Any:
        return updates(
            material.train, batch_size=rows_at_once, accum_step=cfg.gradient_accumulation_steps, seed=cfg.seed,
            start=done, process=rank.rank(), world_size=rank.world_size(),
        )  # fmt: skip

    config = flags.values() | dict(material.facts) | {
        "experiment": home.experiment,
        "model": material.kind,
        "task": material.task.name,
        "num_class": material.task.num_class,
        "max_seq_len": material.train.max_seq_len,
        "dropout": model.dropout.p,
        "method": "epochs",
    }  # fmt: skip
    widths = [len(rows) * material.train.lengths[rows].max() for rows in micro_batches]
    preflight.check_memory(memory.needed([model], None, np.array(widths), sized), device)
    own_dropout(cfg.seed)
    devices, labels = {"model": str(device)}, material.task.labels
    kept = {key: value for key, value in config.items() if key not in NEUTRAL and not isinstance(value, dict)}
    contents = Contents({"config.json": kept}, model, material.tokenizer, devices, labels, flags.command, {})
    home.folder.parent.mkdir(parents=True, exist_ok=True)
    open_folder(home, contents)
    print_table("Run", {**config, "rows": len(material.train), "labels": "logits" if material.soft else "gold"})
    work = Work({"": model}, {"": device}, updater, batches, watch=epochs)
    pace = Pace(ckpt_step=NEVER, log_step=100, state_step=500)
    board = Path(cfg.log_dir) / home.experiment
    session = Session(work, home.folder, board, pace, total, Snapshot(home.folder, [model], updater))
    session.again = "the same command"
    return session, epochs


def publish(home: Home, save_path: Path, *folders: Path) -> Path:
    """Have the documented names point to a run's best model, and to its folder; give the best model's file."""
    best = home.folder / f"model-{pick_checkpoint(home.folder, None, '--save_path')}.pt"
    for link in (save_path, *folders) if rank.is_main() else ():
        point(link, best if link == save_path else home.folder.parent)
    print(f"best model: {best}")
    return best
