"""The wiring that every script repeats: devices, duration, teacher, student."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from fine_tune.checkpoint import fill, load_state, pick_checkpoint
from fine_tune.config import EpochConfig, StepConfig, StudentConfig, TeacherRef, load_config
from fine_tune.data import fingerprint, load_tokenizer
from fine_tune.device import has_bfloat16, resolve_device
from fine_tune.layer_map import first_layer_map, uniform_layer_map
from fine_tune.model.classifier import Classifier, empty_encoder, pretrained_encoder, student_encoder
from fine_tune.model.init import init_student
from fine_tune.path import run_dir
from fine_tune.task import TASKS, Task

logger = logging.getLogger(__name__)


class Devices(NamedTuple):
    """Where the three models live."""

    teacher: torch.device
    student: torch.device
    gate: torch.device


class Loaded(NamedTuple):
    """A model read from a run folder, in eval mode, with what belongs to it."""

    model: Classifier
    tokenizer: PreTrainedTokenizerFast
    config: dict[str, Any]
    folder: Path
    step: int


def resolve_devices(student: int | None, teacher: int | None = None, gate: int | None = None) -> Devices:
    """Give each model its device; teacher and gates go where the student is unless told otherwise."""
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


def class_count(task: Task, given: int | None) -> int:
    """Take the number of classes from the task.

    Raises:
        ValueError: `--num_class` says otherwise.
    """
    if given not in (None, task.num_class):
        kind = "is a regression" if task.regression else f"has {task.num_class} classes"
        raise ValueError(f"--num_class {given}: {task.name} {kind}; leave the flag out")
    return task.num_class


def load_run(experiment: str, model: str, task: Task, step: int | None, ptrain_ver: str | None, flag: str) -> Loaded:
    """Load a model from our own or a released run folder; the pre-trained weights are not needed.

    Args:
        experiment: Name of the run.
        model: `bert` or `albert`.
        task: Its task.
        step: Checkpoint; None for the last.
        ptrain_ver: Tokenizer to use in place of the run's own.
        flag: Name of the flag that chose `step`, for messages.

    Raises:
        FileNotFoundError: No such run or checkpoint.
        ValueError: The files do not fit together.
    """
    folder = run_dir(experiment, model, task.name)
    values = load_config(folder, "--teacher_exp" if flag == "--tckpt" else "--experiment")
    step = pick_checkpoint(folder, step, flag)
    file = folder / f"model-{step}.pt"
    state = load_state(file)
    try:
        network = Classifier(empty_encoder(folder, values, state, ptrain_ver), values["num_class"], values["dropout"])
    except (KeyError, IndexError) as error:
        raise ValueError(f"{file}: not the checkpoint of a {model} classifier (no {error})") from None
    fill(network, state, file)
    own = str(folder / "tokenizer") if has_own_tokenizer(folder) else None
    name = ptrain_ver or own or values.get("ptrain_ver", "bert-base-uncased")
    tokenizer = load_tokenizer(name)
    check_tokenizer(network, tokenizer, name)
    check_length(network, values["max_seq_len"])
    return Loaded(network.eval(), tokenizer, values, folder, step)


def check_tokenizer(model: Classifier, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Refuse a tokenizer whose ids the model has no embeddings for.

    Raises:
        ValueError: The tokenizer is larger than the vocabulary.
    """
    vocabulary = model.encoder.config.vocab_size
    if len(tokenizer) > vocabulary:
        raise ValueError(f"the tokenizer {name!r} has {len(tokenizer)} tokens but the model knows {vocabulary}")


def has_own_tokenizer(folder: Path) -> bool:
    """Whether a run brings its tokenizer along, as all of ours do."""
    return (folder / "tokenizer").is_dir()


def load_teacher(ref: TeacherRef, task: Task, device: torch.device, amp: bool, ptrain_ver: str | None) -> Loaded:
    """Load the frozen teacher onto its device; a released one may need `ptrain_ver` for its tokenizer."""
    if has_own_tokenizer(run_dir(ref.teacher_exp, ref.tmodel, task.name)):
        ptrain_ver = None
    teacher = load_run(ref.teacher_exp, ref.tmodel, task, ref.tckpt, ptrain_ver, "--tckpt")
    if teacher.config["task"] != task.name or teacher.config["num_class"] != task.num_class:
        found = f"{teacher.config['task']} with {teacher.config['num_class']} classes"
        raise ValueError(f"--teacher_exp {ref.teacher_exp}: its config.json is for {found}, not for {task.name}")
    teacher.model.requires_grad_(False).to(device)
    set_amp(teacher.model, device, amp)
    return teacher


def set_amp(model: Classifier, device: torch.device, amp: bool) -> None:
    """Switch mixed precision on where it is asked for.

    Raises:
        ValueError: The device cannot.
    """
    if amp and not has_bfloat16(device):
        raise ValueError(f"--amp: {device} has no bfloat16; leave the flag out")
    model.amp = amp


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


def check_length(model: Classifier, max_seq_len: int) -> None:
    """Refuse inputs longer than the model has positions.

    Raises:
        ValueError: They are.
    """
    positions = model.encoder.config.max_position_embeddings
    if max_seq_len > positions:
        raise ValueError(f"--max_seq_len {max_seq_len}: the encoder has {positions} positions")


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
    layer_map = uniform_layer_map(config.num_hidden_layers, cfg.num_hidden_layers)
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
        if cfg.ptrain_ver or not cfg.init_embeddings or cfg.init_from == "pretrained":
            raise ValueError("--student_init random copies nothing: leave --init_from and --no_init_embeddings out")
        return student, layer_map, {"everything": "random"}
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
    choose = uniform_layer_map if cfg.student_init == "even" else first_layer_map
    layers = choose(source.config.num_hidden_layers, cfg.num_hidden_layers)
    origin = init_student(student.encoder, source, layers, cfg.init_embeddings)
    return student, layer_map, {"source": cfg.init_from} | origin | {"classifier": "random"}
