"""The wiring that every training script repeats: devices, duration, a fresh teacher, a student."""

import logging
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from fine_tune import process
from fine_tune.batches import Batch, updates
from fine_tune.config import (
    EpochConfig,
    OptimConfig,
    RunConfig,
    SpeedConfig,
    StepConfig,
    StudentConfig,
)
from fine_tune.data import Split, fingerprint, load_tokenizer
from fine_tune.device import resolve_device
from fine_tune.layer_map import layer_map
from fine_tune.load import Loaded, check_tokenizer, has_own_tokenizer
from fine_tune.model.classifier import Classifier, pretrained_encoder, student_encoder
from fine_tune.model.init import init_student
from fine_tune.optim import Part
from fine_tune.task import TASKS, Task

logger = logging.getLogger(__name__)


def updates_of(cfg: RunConfig, rows: Split) -> Iterator[list[Batch]]:
    """Give this process its micro-batches, update after update, without end."""
    return updates(
        rows,
        batch_size=cfg.batch_size,
        accum_step=cfg.accum_step,
        seed=cfg.seed,
        pad_to=rows.max_seq_len if cfg.pad_to_max else None,
        rank=process.rank(),
        world_size=process.world_size(),
    )


class Devices(NamedTuple):
    """Where the three models live."""

    teacher: torch.device
    student: torch.device
    gate: torch.device


def resolve_devices(student: int | None, teacher: int | None = None, gate: int | None = None) -> Devices:
    """Give each model its device; teacher and gates go where the student is unless told otherwise.

    Under torchrun every process has one device: a GPU of its own, or the CPU.

    Raises:
        ValueError: There is no such device, or torchrun is to place the models and a flag does, too.
    """
    if process.world_size() > 1:
        if teacher is not None or gate is not None or student not in (None, -1):
            raise ValueError(
                "under torchrun every process has one device: give --device_id -1 (CPU), or none of the flags"
            )
        student = student if student is not None or not torch.cuda.is_available() else process.local_rank()
    home = resolve_device(student)
    return Devices(
        teacher=home if teacher is None else resolve_device(teacher, "--tdevice_id"),
        student=home,
        gate=home if gate is None else resolve_device(gate, "--gate_device_id"),
    )


def resolve_duration(steps: StepConfig, epochs: EpochConfig, rows: int, batch_size: int) -> tuple[int, int]:
    """Turn epochs into updates: `total_step = round(rows / batch_size * epoch)`; the default is 3 epochs.

    Updates win where both are given, so that a recipe in epochs can be cut short.

    Returns:
        Updates in all, and updates of warm-up (at least 1 where it follows from `warmup_rate`).

    Raises:
        ValueError: Nothing would be trained.
    """
    if steps.total_step and epochs.epoch:
        logger.info("--total_step %d takes the place of --epoch %g", steps.total_step, epochs.epoch)
        epochs.epoch = None
    epoch = epochs.epoch or 3
    total = steps.total_step or round(rows / batch_size * epoch)
    if total < 1:
        raise ValueError(f"--epoch {epoch:g} of {rows} rows is not one update of --batch_size {batch_size}")
    warmup = steps.warmup_step if steps.warmup_step is not None else max(1, round(total * epochs.warmup_rate))
    if warmup >= total:
        logger.warning(
            "warm-up (%d updates) is not over by the last update (%d): lr stays below its peak", warmup, total
        )
    return total, warmup


def part_of(model: Classifier, device: torch.device, optim: OptimConfig, steps: StepConfig, speed: SpeedConfig) -> Part:
    """Give a model its optimiser, with the duration that has been resolved."""
    assert steps.total_step is not None and steps.warmup_step is not None
    return Part([model], optim, steps.total_step, steps.warmup_step, lazy_rows(model, device, speed))


def lazy_rows(model: Classifier, device: torch.device, speed: SpeedConfig) -> nn.Embedding | None:
    """Give the embedding that is updated row by row, if any: on a CPU, and in one process."""
    if speed.lazy_embedding and device.type == "cpu" and process.world_size() == 1:
        return cast(nn.Embedding, model.encoder.get_input_embeddings())
    return None


def resolve_gate_duration(gate_steps: StepConfig, steps: StepConfig, epochs: EpochConfig) -> None:
    """Give the gates the student's schedule where theirs is left open."""
    if gate_steps.total_step is None and gate_steps.warmup_step is None:
        gate_steps.warmup_step = steps.warmup_step
    gate_steps.total_step = gate_steps.total_step or steps.total_step
    rate = EpochConfig(epoch=None, warmup_rate=epochs.warmup_rate)
    gate_steps.total_step, gate_steps.warmup_step = resolve_duration(gate_steps, rate, rows=0, batch_size=1)


def class_count(task: Task, given: int | None) -> int:
    """Take the number of classes from the task.

    Raises:
        ValueError: `--num_class` says otherwise.
    """
    if given not in (None, task.num_class):
        kind = "is a regression" if task.regression else f"has {task.num_class} classes"
        raise ValueError(f"--num_class {given}: {task.name} {kind}; leave the flag out")
    return task.num_class


def build_teacher(
    architecture: str, ptrain_ver: str, task: Task, dropout: float
) -> tuple[Classifier, PreTrainedTokenizerFast]:
    """Put a fresh classifier on a pre-trained encoder.

    Raises:
        ValueError: The encoder is of another architecture, or cannot be had.
    """
    encoder = pretrained_encoder(ptrain_ver, dropout)
    if encoder.config.model_type != architecture:
        raise ValueError(f"--model {architecture}: {ptrain_ver!r} is of the architecture {encoder.config.model_type}")
    model = Classifier(encoder, task.num_class, dropout)
    tokenizer = load_tokenizer(ptrain_ver)
    check_tokenizer(model, tokenizer, ptrain_ver)
    return model, tokenizer


def build_student(
    cfg: StudentConfig, architecture: str, teacher: Loaded
) -> tuple[Classifier, list[int], dict[str, str]]:
    """Build the student, fill in the sizes that `cfg` left open, and start it as `cfg` says.

    Returns:
        The student, its layer map, and where each part of it comes from.

    Raises:
        ValueError: Sizes that disagree with the teacher or with each other.
    """
    if architecture != "bert":
        raise ValueError(f"--model {architecture}: a student is a bert")
    config = teacher.model.encoder.config
    task = TASKS[teacher.config["task"]]
    cfg.num_class = class_count(task, cfg.num_class)
    if cfg.max_seq_len not in (None, teacher.config["max_seq_len"]):
        raise ValueError(f"--max_seq_len {cfg.max_seq_len}: the teacher's is {teacher.config['max_seq_len']}")
    cfg.max_seq_len = teacher.config["max_seq_len"]
    cfg.num_hidden_layers = cfg.num_hidden_layers or max(1, config.num_hidden_layers // 2)
    followed = layer_map(config.num_hidden_layers, cfg.num_hidden_layers)
    if followed[-1] + 1 < config.num_hidden_layers:
        logger.warning(
            "teacher layers above %d teach nobody: %d student layers do not divide %d",
            followed[-1] + 1,
            cfg.num_hidden_layers,
            config.num_hidden_layers,
        )
    cfg.d_model = cfg.d_model or config.hidden_size
    if cfg.d_model != config.hidden_size:
        raise ValueError(f"--d_model {cfg.d_model}: the teacher's hidden states are {config.hidden_size} wide")
    cfg.d_ff = cfg.d_ff or config.intermediate_size
    cfg.num_attention_heads = cfg.num_attention_heads or config.num_attention_heads
    if cfg.d_model % cfg.num_attention_heads:
        raise ValueError(f"--num_attention_heads {cfg.num_attention_heads} does not divide the width {cfg.d_model}")
    cfg.type_vocab_size = cfg.type_vocab_size or config.type_vocab_size
    if cfg.type_vocab_size < len(task.text):
        raise ValueError(f"--type_vocab_size {cfg.type_vocab_size}: {task.name} has {len(task.text)} segments")
    sizes = {
        "num_hidden_layers": cfg.num_hidden_layers,
        "intermediate_size": cfg.d_ff,
        "num_attention_heads": cfg.num_attention_heads,
        "type_vocab_size": cfg.type_vocab_size,
        "max_position_embeddings": cfg.max_seq_len,
    }
    student = Classifier(student_encoder(teacher.model.encoder, sizes, cfg.dropout), cfg.num_class, cfg.dropout)
    if cfg.student_init == "random":
        unused = cfg.ptrain_ver and has_own_tokenizer(teacher.folder)
        if unused or not cfg.init_embeddings or cfg.init_from == "pretrained":
            raise ValueError("--student_init random copies nothing: no --init_from, --no_init_embeddings, --ptrain_ver")
        return student, followed, {"everything": "random"}
    source = source_encoder(cfg, teacher)
    layers = layer_map(source.config.num_hidden_layers, cfg.num_hidden_layers, cfg.student_init)
    origin = init_student(student.encoder, source, layers, cfg.init_embeddings)
    return student, followed, {"source": cfg.init_from} | origin | {"classifier": "random"}


def source_encoder(cfg: StudentConfig, teacher: Loaded) -> PreTrainedModel:
    """Give the encoder that a student's weights are copied from: the teacher's, or the pre-trained one.

    Raises:
        ValueError: Its tokens or its heads are not the student's.
    """
    source = teacher.model.encoder
    if cfg.init_from == "pretrained":
        name = cfg.ptrain_ver or teacher.config.get("ptrain_ver", "bert-base-uncased")
        if cfg.ptrain_ver and fingerprint(load_tokenizer(name)) != fingerprint(teacher.tokenizer):
            raise ValueError(f"--ptrain_ver {name!r} cuts text into other tokens than the teacher: no common positions")
        source = pretrained_encoder(name)
    elif cfg.ptrain_ver and has_own_tokenizer(teacher.folder):
        raise ValueError("--ptrain_ver has no effect without --init_from pretrained; leave it out")
    kind, heads = source.config.model_type, source.config.num_attention_heads
    if (kind, heads) != ("bert", cfg.num_attention_heads):
        raise ValueError(
            f"a {kind} of {heads} heads cannot be copied into a bert of {cfg.num_attention_heads}; "
            "use --student_init random"
        )
    return source
