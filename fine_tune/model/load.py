"""Read a model back from a run folder, our own or a released one, with all that belongs to it."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fine_tune.data.tokens import Split, load_tokenizer
from fine_tune.files import first_line
from fine_tune.flags.saved import load_config
from fine_tune.flags.shared import TeacherRef
from fine_tune.model.architectures import positions, setting
from fine_tune.model.checkpoint import fill, load_state, pick_checkpoint
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import empty_encoder, pretrained_encoder
from fine_tune.path import run_dir
from fine_tune.tasks.table import Task

logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A model read from a run folder, frozen, in eval mode, with what belongs to it."""

    model: Classifier
    tokenizer: PreTrainedTokenizerFast
    config: dict[str, Any]
    folder: Path
    step: int

    @property
    def max_seq_len(self) -> int:
        """Tokens per input at most."""
        return int(self.config["max_seq_len"])

    @property
    def checkpoint(self) -> Path:
        """The model's file."""
        return self.folder / f"model-{self.step}.pt"


def load_run(experiment: str, model: str, task: Task, step: int | None, ptrain_ver: str | None, flag: str) -> Loaded:
    """Load a model from our own or a released run folder; the pre-trained weights are not needed.

    Args:
        experiment: Name of the run.
        model: Its architecture.
        task: Its task.
        step: Checkpoint; None for the last.
        ptrain_ver: Tokenizer to use in place of the run's own.
        flag: Name of the flag that chose `step`, for messages.

    Raises:
        FileNotFoundError: No such run or checkpoint.
        ValueError: The files do not fit together.
    """
    named = {
        "--tckpt": "--teacher_exp", "--init_ckpt": "--init_exp", "--src_ckpt": "--src_experiment",
        "--beside": "--beside",
    }.get(flag, "--experiment")  # fmt: skip
    folder = run_dir(experiment, model, task.name)
    values = load_config(folder, named)
    if values["task"] != task.name or values["num_class"] != task.num_class:
        found = f"{values['task']} with {values['num_class']} classes"
        raise ValueError(f"{named} {experiment}: its config.json is for {found}, not for {task.name}")
    return load_folder(folder, values, step, ptrain_ver, flag)


def load_folder(folder: Path, values: dict[str, Any], step: int | None, ptrain_ver: str | None, flag: str) -> Loaded:
    """Load a model from a run's folder with these `values` in its `config.json`, see `load_run`."""
    step = pick_checkpoint(folder, step, flag)
    file = folder / f"model-{step}.pt"
    state = load_state(file)
    dense = "dense.weight" in state
    network = build_for(state, file, lambda: Classifier(
        empty_encoder(folder, values, state, ptrain_ver), values["num_class"], values["dropout"], dense
    ))  # fmt: skip
    own = str(folder / "tokenizer") if has_own_tokenizer(folder) else None
    name = ptrain_ver or own or values.get("ptrain_ver")
    if name is None:
        name = "bert-base-uncased"
        logger.warning(
            "%s names no tokenizer: bert-base-uncased, as in the released code; --ptrain_ver names another", folder
        )
    tokenizer = load_tokenizer(name)
    check_tokenizer(network, tokenizer, name)
    check_length(network, values["max_seq_len"])
    return Loaded(network.eval().requires_grad_(False), tokenizer, values, folder, step)


def build_for(state: dict[str, Tensor], file: Path, build: Callable[[], Classifier]) -> Classifier:
    """Build the model of a state dict; on the meta device first, as a stranger's file may claim any size.

    Raises:
        ValueError: There is no such model, or the state dict is not one of it.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            fill(build(), state, file)
        model = build()
    except OSError:
        raise
    except ValueError as error:
        raise error if str(file) in str(error) else ValueError(f"{file}: {error}") from None
    except Exception as error:  # whatever a library does with values that make no sense
        what = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{file}: not the checkpoint of a classifier that can be built ({what})") from None
    fill(model, state, file)
    return model


def check_tokenizer(model: Classifier, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Refuse a tokenizer whose ids the model has no embeddings for.

    Raises:
        ValueError: The tokenizer is larger than the vocabulary.
    """
    vocabulary = model.encoder.config.vocab_size
    if len(tokenizer) > vocabulary:
        raise ValueError(f"the tokenizer {name!r} has {len(tokenizer)} tokens but the model knows {vocabulary}")
    if len(tokenizer) < vocabulary:
        logger.warning(
            "the tokenizer %s has %d tokens, the model %d: is it this model's?", name, len(tokenizer), vocabulary
        )


def has_own_tokenizer(folder: Path) -> bool:
    """Whether a run brings its tokenizer along, as all of ours do."""
    return (folder / "tokenizer").is_dir()


def load_teacher(ref: TeacherRef, task: Task, ptrain_ver: str | None) -> Loaded:
    """Load the teacher; a released one may need `ptrain_ver` for its tokenizer."""
    if has_own_tokenizer(ref.folder(task.name)):
        ptrain_ver = None
    return load_run(ref.teacher_exp, ref.architecture(task.name), task, ref.tckpt, ptrain_ver, "--tckpt")


def check_length(model: Classifier, max_seq_len: int) -> None:
    """Refuse inputs longer than the model has positions.

    Raises:
        ValueError: They are.
    """
    known = positions(model.encoder.config)
    if max_seq_len > known:
        raise ValueError(f"--max_seq_len {max_seq_len}: the encoder has {known} positions")


def check_segments(model: Classifier, rows: Split, name: str = "type_vocab_size") -> None:
    """Refuse rows with more segments than the model has embeddings for; some tokenizers give a pair a single one.

    Raises:
        ValueError: They have, with the `name` of what decides.
    """
    segments, known = 1 + int(rows.token_type_ids.max()), setting(model.encoder.config, "type_vocab_size")
    if segments > known > 0:  # some families embed none
        raise ValueError(f"{name} {known}: {rows.task.name} has {segments} segments, the model embeds {known}")


def fresh_teacher(
    architecture: str, ptrain_ver: str, task: Task, dropout: float
) -> tuple[Classifier, PreTrainedTokenizerFast]:
    """Put a fresh classifier on a pre-trained encoder.

    Raises:
        ValueError: The encoder is of another architecture, or cannot be had.
    """
    encoder = pretrained_encoder(ptrain_ver, dropout)
    if encoder.config.model_type != architecture:
        raise ValueError(f"--model {architecture}: {ptrain_ver!r} is of the architecture {encoder.config.model_type}")
    model = Classifier(encoder, task.num_class, dropout, dense=True)
    tokenizer = load_tokenizer(ptrain_ver)
    check_tokenizer(model, tokenizer, ptrain_ver)
    return model, tokenizer
