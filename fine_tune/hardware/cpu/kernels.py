"""The one call that puts our CPU operators into a model."""

from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.activations import GELUActivation

from fine_tune.hardware.cpu.attention import by_length, on_cpu
from fine_tune.hardware.cpu.dropout import Dropout
from fine_tune.hardware.cpu.gelu import Gelu
from fine_tune.hardware.cpu.linear import Linear

KERNELS: dict[type[nn.Module], type[nn.Module]] = {nn.Dropout: Dropout, nn.Linear: Linear, GELUActivation: Gelu}
"""Modules of the libraries, and ours with the same parameters and state."""
ATTENTION = {"bert", "albert", "roberta", "xlm-roberta", "electra", "distilbert"}
"""Encoders whose attention can be ours: they are given masks that are ready for it."""
CHANGED_IN_PLACE = {"pos_q_proj"}
"""Maps whose results the library changes in place (DeBERTa v1), which autograd forbids of ours."""


def use_cpu_kernels(model: nn.Module) -> None:
    """Replace a model's operators by ours; parameters, their names and hooks stay.

    A module changes its class in place: ours add no state, and nothing has to be copied or named again.
    """
    AttentionInterface.register("on_cpu", on_cpu)
    for name, module in model.named_modules():
        if name.rpartition(".")[2] not in CHANGED_IN_PLACE:
            module.__class__ = KERNELS.get(type(module), type(module))
        if isinstance(module, PreTrainedModel) and module.config.model_type in ATTENTION:
            module.set_attn_implementation("on_cpu")


def attend_by_length(encoder: PreTrainedModel) -> None:
    """Have an encoder attend to rows of different length apart, see `attention.by_length`.

    Of one whose attention cannot be ours, a row's outputs depend on the padding beside it by rounding.
    """
    if encoder.config.model_type in ATTENTION:
        AttentionInterface.register("by_length", by_length)
        encoder.set_attn_implementation("by_length")
