"""An encoder with a classifier on its pooled output: teacher and student.

The pooled output is that of the encoder's pooler; where it has none, that of a linear map and the activation of its
family's classifiers (`architectures`), or else the first token.

Shapes: B batch, S tokens, D width, C classes, L layers. Source: Devlin et al. 2019; released code, whose state-dict
names are kept: `encoder.` + transformers' names, `linear_layer.weight`, `linear_layer.bias`.

Departures: `--dropout` sets the encoder's and the classifier's dropout alike. The library drops states before the first
map of some heads, too; here dropout is before the last one only.
"""

import inspect
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import get_activation

from fine_tune.hardware.cpu.kernels import ATTENTION
from fine_tune.hardware.precision import autocast
from fine_tune.model.architectures import LAYERS, head_activation, setting
from fine_tune.model.part import TrainedPart


class Output(NamedTuple):
    """What a model returns: float32 `logits` (B, C), L `hidden_states` (B, S, D) without the embedding output.

    `first` (B, D) is [CLS] of the last layer, whatever is made of `hidden_states`; `pooled` (B, D) is what the linear
    layer reads: the pooled output, with dropout.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...]
    first: Tensor
    pooled: Tensor


class Classifier(TrainedPart):
    """Encoder, dropout, linear layer; the latter starts as N(0, 0.02^2), its bias as 0, and so does `dense`, if any.

    Args:
        encoder: Any that `AutoModel` loads; the states of all layers are known of those in `FAMILIES`.
        num_class: C; 1 for regression.
        dropout: Probability before the linear layer.
        dense: Where the encoder has no pooler, have the linear map and activation of its family's classifiers instead;
            otherwise the linear layer reads the first token.
    """

    product_dtype = torch.float32
    """Of the matrix products, see `precision`; parameters that learn and logits stay float32."""

    def __init__(self, encoder: PreTrainedModel, num_class: int, dropout: float, dense: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.linear_layer = linear(encoder.config.hidden_size, num_class)
        self.dense: nn.Linear | None = None
        if dense and (activation := head_activation(encoder.config)):
            self.dense = linear(encoder.config.hidden_size, encoder.config.hidden_size)
            self.activation = get_activation(activation)
        self.kept: list[Tensor] = []
        self.takes = frozenset(inspect.signature(encoder.forward).parameters)
        self.ready_mask = encoder.config.model_type in ATTENTION
        for layer in encoder_layers(encoder):
            layer.register_forward_pre_hook(self.keep)

    def keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Store what a layer is given; transformers' own recording would split a compiled layer in two."""
        self.kept.append(inputs[0])

    @property
    def num_layers(self) -> int:
        """L."""
        return int(self.encoder.config.num_hidden_layers)

    @property
    def width(self) -> int:
        """D."""
        return int(self.encoder.config.hidden_size)

    @property
    def inner(self) -> int:
        """F, the width of the feed-forward layers."""
        return int(setting(self.encoder.config, "intermediate_size"))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor) -> Output:
        """Classify a batch; every argument is (B, S), the mask may be None if there is no padding."""
        states = self.states(input_ids, attention_mask, token_type_ids)
        first = states[-1][:, 0]
        pooled = self.dropout(self.pooled(first))
        return Output(self.classified(pooled), states[1:], first, pooled)

    def states(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch, see `forward`: the embedding output, then L layers (B, S, D); of others the last alone."""
        arguments: dict[str, Any] = {"input_ids": input_ids}
        if "token_type_ids" in self.takes:
            arguments["token_type_ids"] = token_type_ids
        if self.encoder.config._attn_implementation == "by_length":
            arguments["lengths"] = None if attention_mask is None else attention_mask.sum(1).int().tolist()
        elif attention_mask is not None and self.ready_mask:
            # Ready as (B, 1, S, S): the library tests a (B, S) mask for padding, and a GPU would have to wait for it.
            arguments["attention_mask"] = attention_mask.bool()[:, None, None, :].expand(-1, 1, input_ids.shape[1], -1)
        elif "attention_mask" in self.takes:
            arguments["attention_mask"] = attention_mask
        with autocast(input_ids.device, self.product_dtype):
            self.kept.clear()
            made = self.encoder(**arguments)
        # An encoder of sentences gives (B, D).
        states = (*self.kept, made[:, None] if isinstance(made, Tensor) else made.last_hidden_state)
        self.kept.clear()
        return states

    def head(self, first: Tensor) -> Tensor:
        """Classify by the last layer's [CLS] states (B, D): logits (B, C)."""
        return self.classified(self.dropout(self.pooled(first)))

    def classified(self, pooled: Tensor) -> Tensor:
        """Map pooled output (B, D) to logits (B, C)."""
        with autocast(pooled.device, self.product_dtype):
            logits: Tensor = self.linear_layer(pooled)
        return logits.float()

    def pooled(self, first: Tensor) -> Tensor:
        """Pool the last layer's [CLS] states (B, D) by a linear layer and an activation: (B, D)."""
        pooler = getattr(self.encoder, "pooler", None)
        with autocast(first.device, self.product_dtype):
            if self.dense is not None:
                return cast(Tensor, self.activation(self.dense(first)))
            if pooler is None:
                return first
            albert = hasattr(self.encoder, "pooler_activation")
            made: Tensor = self.encoder.pooler_activation(pooler(first)) if albert else pooler(first.unsqueeze(1))
        return made


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Make a linear map that starts as N(0, 0.02^2), its bias as 0."""
    made = nn.Linear(inputs, outputs)
    nn.init.normal_(made.weight, std=0.02)
    nn.init.zeros_(made.bias)
    return made


def encoder_layers(encoder: nn.Module) -> list[nn.Module]:
    """Find the layers of an encoder of a known kind (an ALBERT has one, and runs it L times)."""
    return [module for module in encoder.modules() if type(module).__name__ in LAYERS]
