"""Encoders: loaded with their pre-trained weights, or built empty for a checkpoint or a student.

Departure from the released code: a student's shape is read off its checkpoint where its `config.json` does not say.
"""

import copy
import logging
import re
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModel,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from fine_tune.files import first_line
from fine_tune.flags.shared import SizesConfig
from fine_tune.hub import CONFIG, folder_fault, located, missing, weight_files
from fine_tune.model import words
from fine_tune.model.architectures import first_position, set_settings, setting

logger = logging.getLogger(__name__)

KNOWN_ENCODERS = ("bert-base-uncased", "bert-base-cased", "bert-large-uncased", "bert-large-cased")
"""Google's BERTs: their shape can be read off a checkpoint, so a released teacher loads without a model hub."""

MOST_LAYERS = 1000
"""More than any encoder has."""
BERT_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_act",
    "layer_norm_eps",
    "pad_token_id",
)
"""What a student takes over from the architecture of its source."""


BODY = re.compile(r"(^|\.)(embeddings|encoder)\.(?!position_ids)")
"""Names of weights that an encoder would use; those of pre-training's heads, say, are left behind."""


def with_dropout(config: PreTrainedConfig, dropout: float) -> PreTrainedConfig:
    """Set every dropout probability of an architecture."""
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    for name in ("dropout", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, dropout)
    return config


class UnsupportedError(ValueError):
    """A setting of an encoder that the library would ignore, or that cannot be trained with."""


def check_settings(config: PreTrainedConfig) -> None:
    """Refuse settings of an encoder that transformers no longer reads, or that nothing here can train.

    Raises:
        UnsupportedError: Naming the setting.
    """
    if (kind := getattr(config, "position_embedding_type", "absolute")) != "absolute":
        raise UnsupportedError(
            f"position_embedding_type {kind!r} is not supported: transformers reads absolute positions alone"
        )
    if pruned := getattr(config, "pruned_heads", None):
        raise UnsupportedError(f"pruned_heads {pruned} are not supported")
    if quantised := getattr(config, "quantization_config", None):
        kind = quantised.get("quant_method", "some way") if isinstance(quantised, dict) else type(quantised).__name__
        raise UnsupportedError(f"its weights are quantised ({kind}); give the encoder in full precision")
    if getattr(config, "is_decoder", False):
        raise UnsupportedError("is_decoder: a model that reads from left to right only is no encoder")
    if (layers := getattr(config, "num_hidden_layers", 0)) > MOST_LAYERS:
        raise UnsupportedError(f"an encoder of {layers} layers; is its configuration damaged?")


def pretrained_encoder(name: str, dropout: float | None = None, flag: str = "--ptrain_ver") -> PreTrainedModel:
    """Load a pre-trained encoder from a hub name or a local folder, in float32; `flag` is the one that names it.

    Raises:
        ValueError: There is no such encoder within reach, or its weights are damaged or incomplete.
    """

    def prepare(config: PreTrainedConfig) -> None:
        if dropout is not None:
            with_dropout(config, dropout)

    encoder, info = from_library(AutoModel, name, prepare, flag)
    if unused := sorted(filter(BODY.search, info["unexpected_keys"])):
        logger.warning("%s: %d weights are not used, %s among them", name, len(unused), unused[0])
    absent = sorted(info["missing_keys"])
    if any("pooler" not in key for key in absent):
        raise ValueError(f"{flag} {name!r}: {len(absent)} weights are missing, {absent[0]} among them")
    if absent:
        logger.warning("%s has no pooler (%s): it starts at random", name, ", ".join(absent))
    return encoder


def from_library(
    kind: Any, name: str, prepare: Callable[[PreTrainedConfig], None], flag: str = "--ptrain_ver"
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a model from a hub name or a local folder, in float32; whatever the library raises becomes one line.

    Args:
        kind: The class of the library that finds the model's own: `AutoModel`, say.
        name: Its name.
        prepare: Checks or changes its configuration, before its weights are read.
        flag: The flag that names it.

    Returns:
        The model, and what the library says of its weights: `missing_keys`, `unexpected_keys`.

    Raises:
        ValueError: There is no such model within reach, or it cannot be used.
    """
    source, options = located(name)
    try:
        config = AutoConfig.from_pretrained(source, **options)
        check_settings(config)
        prepare(config)
        model, info = kind.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **options
        )
    except UnsupportedError as error:
        raise ValueError(f"{flag} {name!r}: {error}") from None
    except (RuntimeError, SafetensorError, UnpicklingError) as error:
        fault = folder_fault(Path(source), weight_files(Path(source))) if Path(source).is_dir() else ""
        why = fault or f"weights damaged or of another model: {first_line(error)}"
        raise ValueError(f"{flag} {name!r}: {why}") from None
    except Exception as error:  # a stranger's folder can make the library raise any of Python's
        raise ValueError(f"{flag} {name!r}: {missing(name, error, CONFIG + weight_files(Path(source)))}") from None
    return model, info


def empty_encoder(
    run_dir: Path, values: dict[str, Any], state: dict[str, Tensor], ptrain_ver: str | None = None
) -> PreTrainedModel:
    """Build the encoder of a checkpoint, its weights not yet filled in; the pre-trained ones are not needed.

    Args:
        run_dir: Folder of the run; its `encoder.json` decides where there is one (our own runs).
        values: The run's `config.json`.
        state: The checkpoint, for the sizes that a released `config.json` leaves out.
        ptrain_ver: Encoder whose architecture it is, where the one in `config.json` has moved.

    Raises:
        ValueError: The architecture is not within reach.
    """
    words.register()
    if (run_dir / "encoder.json").is_file():
        config = AutoConfig.from_pretrained(run_dir / "encoder.json", trust_remote_code=False)
    elif "ptrain_ver" not in values or values["ptrain_ver"] in KNOWN_ENCODERS:
        config = config_of_released(state, values)
    else:
        name = ptrain_ver or values["ptrain_ver"]
        source, options = located(name)
        try:
            config = AutoConfig.from_pretrained(source, **options)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"no encoder {name!r}: {missing(name, error, CONFIG)}; name its folder with --ptrain_ver"
            ) from None
    if config.num_hidden_layers > MOST_LAYERS:
        raise ValueError(f"{run_dir}: an encoder of {config.num_hidden_layers} layers; is its configuration damaged?")
    return AutoModel.from_config(with_dropout(config, values["dropout"]), dtype=torch.float32)


def config_of_released(state: dict[str, Tensor], values: dict[str, Any]) -> PreTrainedConfig:
    """Read the shape of a BERT or an ALBERT off a released checkpoint, with what only its `config.json` tells.

    Heads are 64 wide where the configuration does not count them, as in all of Google's BERTs.

    Raises:
        ValueError: The checkpoint is of neither, or the configuration lacks what an ALBERT's weights do not show.
    """

    def shape(name: str, axes: int = 2) -> torch.Size:
        if f"encoder.{name}" not in state:
            raise ValueError(f"no BERT or ALBERT: the checkpoint has no encoder.{name}")
        found = state[f"encoder.{name}"].shape
        if len(found) != axes:
            raise ValueError(f"no BERT or ALBERT: encoder.{name} has {len(found)} axes, not {axes}")
        return found

    def count(name: str) -> int | None:
        number = values.get(name)
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"config.json: {name} must be a positive number, got {number!r}")
        return number

    vocab, inner = shape("embeddings.word_embeddings.weight")
    sizes: dict[str, Any] = {
        "vocab_size": vocab,
        "max_position_embeddings": shape("embeddings.position_embeddings.weight")[0],
        "type_vocab_size": shape("embeddings.token_type_embeddings.weight")[0],
    }
    if values["model"] == "albert":
        layer = "encoder.albert_layer_groups.0.albert_layers.0"
        width = shape(f"{layer}.full_layer_layer_norm.weight", 1)[0]
        if not (layers := count("num_hidden_layers")):
            raise ValueError(
                "an ALBERT's weights do not show how many layers it has: config.json lacks num_hidden_layers"
            )
        feed_forward = shape(f"{layer}.ffn.weight")[0]
        kind: type[PreTrainedConfig] = AlbertConfig
        sizes["embedding_size"] = inner
    else:
        found = [re.match(r"encoder\.encoder\.layer\.(\d+)\.", name) for name in state]
        layers = 1 + max((int(match[1]) for match in found if match), default=0)
        width, feed_forward, kind = inner, shape("encoder.layer.0.intermediate.dense.bias", 1)[0], BertConfig
    heads = count("num_attention_heads") or max(1, width // 64)
    return kind(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=feed_forward, **sizes
    )


def student_encoder(
    source: PreTrainedConfig, sizes: dict[str, int | None], dropout: float, kind: str = "bert"
) -> PreTrainedModel:
    """Build an encoder with random weights and the architecture of `source`, but for the given `sizes`.

    Its kind is that of `source`, or it is a BERT or an ALBERT that takes from `source` what it has, too. Positions are
    counted in tokens.
    """
    given = {name: size for name, size in sizes.items() if size is not None}
    values = {name: setting(source, name) for name in BERT_SIZES} | given
    if kind == "albert":
        config: PreTrainedConfig = AlbertConfig(**values)
    elif kind == "bert":
        config = BertConfig(**values)
    else:
        config = copy.deepcopy(source)
        if getattr(config, "max_relative_positions", 1) < 1:  # DeBERTa: as far as positions go, which may be fewer here
            config.max_relative_positions = config.max_position_embeddings
        set_settings(config, given)
        if "max_position_embeddings" in given:
            config.max_position_embeddings += first_position(config)
    return AutoModel.from_config(with_dropout(config, dropout), dtype=torch.float32)


def sized_encoder(kind: str, cfg: SizesConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Build a BERT or an ALBERT with random weights, of the sizes that flags give."""
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_size": cfg.d_model,
        "intermediate_size": cfg.d_ff,
        "num_hidden_layers": cfg.num_hidden_layers,
        "num_attention_heads": cfg.num_attention_heads,
        "type_vocab_size": cfg.type_vocab_size,
        "max_position_embeddings": cfg.max_seq_len,
    }
    config = AlbertConfig(**sizes, embedding_size=cfg.d_emb) if kind == "albert" else BertConfig(**sizes)
    return AutoModel.from_config(with_dropout(config, cfg.dropout), dtype=torch.float32)
