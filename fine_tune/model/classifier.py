"""A BERT-like encoder with a classifier on its pooled output: teacher and student alike.

Shapes: B batch, S tokens, D width, C classes, L layers. Source: Devlin et al. 2019; released code, whose state-dict
names are kept: `encoder.` + transformers' names, `linear_layer.weight`, `linear_layer.bias`.

Departures:
1. `--dropout` sets the encoder's and the classifier's dropout alike.
2. A student's shape is read off its checkpoint where its `config.json` does not say.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, PreTrainedConfig, PreTrainedModel

from fine_tune.flags.option import first_line
from fine_tune.hardware.cpu import attention  # noqa: F401  (registers on_cpu, by_length)
from fine_tune.hardware.precision import autocast

logger = logging.getLogger(__name__)

KNOWN_ENCODERS = ("bert-base-uncased", "bert-base-cased", "bert-large-uncased", "bert-large-cased")
"""Google's BERTs: their shape can be read off a checkpoint, so a released teacher loads without a model hub."""

MOST_LAYERS = 1000
"""More than any encoder has."""


class Output(NamedTuple):
    """What a model returns: float32 `logits` (B, C), L `hidden_states` (B, S, D) without the embedding output."""

    logits: Tensor
    hidden_states: tuple[Tensor, ...]


class Classifier(nn.Module):
    """Encoder, dropout, linear layer.

    Args:
        encoder: BERT or ALBERT with a pooler.
        num_class: C; 1 for regression.
        dropout: Probability before the linear layer.
    """

    product_dtype = torch.float32
    """Of the matrix products, see `precision`; parameters that learn and logits stay float32."""

    def __init__(self, encoder: PreTrainedModel, num_class: int, dropout: float) -> None:
        """Initialise the linear layer with N(0, 0.02^2), its bias with 0."""
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.linear_layer = nn.Linear(encoder.config.hidden_size, num_class)
        nn.init.normal_(self.linear_layer.weight, std=0.02)
        nn.init.zeros_(self.linear_layer.bias)
        self.kept: list[Tensor] = []
        for layer in encoder_layers(encoder):
            layer.register_forward_pre_hook(self.keep_embedding)
            layer.register_forward_hook(self.keep)

    def keep_embedding(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Note what the first layer is given."""
        if not self.kept:
            self.kept.append(inputs[0])

    def keep(self, layer: nn.Module, inputs: object, states: Tensor) -> None:
        """Note what a layer of the encoder returned; the library's own hooks would break a compiled layer apart."""
        self.kept.append(states)

    @property
    def num_layers(self) -> int:
        """L."""
        return int(self.encoder.config.num_hidden_layers)

    @property
    def width(self) -> int:
        """D."""
        return int(self.encoder.config.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor) -> Output:
        """Classify a batch; every argument is (B, S), the mask may be None if there is no padding."""
        states = self.states(input_ids, attention_mask, token_type_ids)
        return Output(self.head(states[-1][:, 0]), states[1:])

    def states(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch, see `forward`: the embedding output, then L layers (B, S, D)."""
        arguments: dict[str, Any] = {"input_ids": input_ids, "token_type_ids": token_type_ids}
        if self.encoder.config._attn_implementation == "by_length":
            arguments["lengths"] = None if attention_mask is None else attention_mask.sum(1).int().tolist()
        elif attention_mask is not None:
            # Ready as (B, 1, S, S): the library tests a (B, S) mask for padding, and a GPU would have to wait for it.
            arguments["attention_mask"] = attention_mask.bool()[:, None, None, :].expand(-1, 1, input_ids.shape[1], -1)
        with autocast(input_ids.device, self.product_dtype):
            self.kept.clear()
            self.encoder(**arguments)
        states = tuple(self.kept)
        self.kept.clear()
        return states

    def head(self, first: Tensor) -> Tensor:
        """Classify by the last layer's [CLS] states (B, D): logits (B, C)."""
        pooler = self.encoder.pooler
        with autocast(first.device, self.product_dtype):
            if isinstance(pooler, nn.Linear):  # ALBERT
                pooled = self.encoder.pooler_activation(pooler(first))
            else:
                pooled = pooler(first.unsqueeze(1))
            logits: Tensor = self.linear_layer(self.dropout(pooled))
        return logits.float()


def encoder_layers(encoder: nn.Module) -> list[nn.Module]:
    """Find the layers of a BERT or an ALBERT (which has one, and runs it L times)."""
    return [module for module in encoder.modules() if type(module).__name__ in ("BertLayer", "AlbertLayer")]


def with_dropout(config: PreTrainedConfig, dropout: float) -> PreTrainedConfig:
    """Set every dropout probability of an architecture."""
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    return config


def pretrained_encoder(name: str, dropout: float | None = None) -> PreTrainedModel:
    """Load a pre-trained encoder from a hub name or a local folder, in float32.

    Raises:
        ValueError: There is no such encoder within reach, or its weights are damaged or incomplete.
    """
    folder = Path(name).expanduser()
    source = str(folder) if folder.is_dir() else name
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if dropout is not None:
            with_dropout(config, dropout)
        encoder, info = AutoModel.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"--ptrain_ver {name!r}: no such folder, nor on the model hub: {first_line(error)}") from None
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"--ptrain_ver {name!r}: weights damaged or of another model: {first_line(error)}") from None
    missing = sorted(info["missing_keys"])
    if any("pooler" not in key for key in missing):
        raise ValueError(f"--ptrain_ver {name!r}: {len(missing)} weights are missing, {missing[0]} among them")
    if missing:
        logger.warning("%s has no pooler (%s): it starts at random", name, ", ".join(missing))
    return encoder


def empty_encoder(
    run_dir: Path, values: dict[str, Any], state: dict[str, Tensor], ptrain_ver: str | None = None
) -> PreTrainedModel:
    """Build the encoder that a checkpoint belongs to, with meaningless weights; the pre-trained ones are not needed.

    Args:
        run_dir: Folder of the run; its `encoder.json` decides where there is one (our own runs).
        values: The run's `config.json`.
        state: The checkpoint, for the sizes that a released `config.json` leaves out.
        ptrain_ver: Encoder whose architecture it is, where the one in `config.json` has moved.

    Raises:
        ValueError: The architecture is not within reach.
    """
    if (run_dir / "encoder.json").is_file():
        config = AutoConfig.from_pretrained(run_dir / "encoder.json", trust_remote_code=False)
    elif "ptrain_ver" not in values or values["ptrain_ver"] in KNOWN_ENCODERS:
        config = bert_config_of(state, values.get("num_attention_heads"))
    else:
        name = ptrain_ver or values["ptrain_ver"]
        folder = Path(name).expanduser()
        try:
            config = AutoConfig.from_pretrained(str(folder) if folder.is_dir() else name, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"no encoder {name!r}; name its folder with --ptrain_ver: {first_line(error)}") from None
    if config.num_hidden_layers > MOST_LAYERS:
        raise ValueError(f"{run_dir}: an encoder of {config.num_hidden_layers} layers; is encoder.json damaged?")
    return AutoModel.from_config(with_dropout(config, values["dropout"]), dtype=torch.float32)


def bert_config_of(state: dict[str, Tensor], heads: int | None) -> BertConfig:
    """Read the shape of a BERT off its state dict; without `heads`, 64 wide each, as in all of Google's BERTs."""
    prefix = "encoder.encoder.layer."
    vocab, width = state["encoder.embeddings.word_embeddings.weight"].shape
    return BertConfig(
        vocab_size=vocab,
        hidden_size=width,
        num_hidden_layers=1 + max(int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix)),
        num_attention_heads=heads or width // 64,
        intermediate_size=state[f"{prefix}0.intermediate.dense.bias"].shape[0],
        max_position_embeddings=state["encoder.embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=state["encoder.embeddings.token_type_embeddings.weight"].shape[0],
    )


def student_encoder(teacher: PreTrainedModel, sizes: dict[str, int | None], dropout: float) -> BertModel:
    """Build a BERT with random weights and the teacher's architecture, but for the given `sizes`."""
    config = BertConfig(**{name: getattr(teacher.config, name) for name in BERT_SIZES})
    config.update({name: size for name, size in sizes.items() if size is not None})
    return BertModel(with_dropout(config, dropout))


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
