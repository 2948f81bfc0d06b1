"""A model where and as it is to run: device, precision, and the layers that are fast there."""

import torch
from torch import nn

from fine_tune.config import PrecisionConfig, SpeedConfig
from fine_tune.model.classifier import Classifier, encoder_layers
from fine_tune.model.dropout import Dropout
from fine_tune.model.gate import GateChain, HighwayGate
from fine_tune.model.linear import Linear
from fine_tune.precision import set_precision

FAST: dict[type[nn.Module], type[nn.Module]] = {nn.Dropout: Dropout, nn.Linear: Linear}
"""Modules of the libraries, and those of the same parameters that take their places."""


def place(model: Classifier | GateChain, device: torch.device, precision: PrecisionConfig, speed: SpeedConfig) -> None:
    """Put a model on its device, in its precision; recompute or compile its layers where the user wishes it.

    Args:
        model: What learns and what does not must be settled: frozen matrices are kept in the low precision.
        device: Its place.
        precision: Resolved; None is fp32.
        speed: The user's wishes.
    """
    for module in model.modules():
        module.__class__ = FAST.get(type(module), type(module))
    set_precision(model.to(device), precision.precision or "fp32")
    if device.type == "cpu" and isinstance(model, Classifier):
        model.encoder.set_attn_implementation("on_cpu")
    if speed.gradient_checkpointing and isinstance(model, Classifier) and model.linear_layer.weight.requires_grad:
        if not model.encoder.supports_gradient_checkpointing:
            raise ValueError(f"--gradient_checkpointing: the library has none for {model.encoder.config.model_type}")
        # The newer name, where transformers has it: the older one warns.
        old = model.encoder.gradient_checkpointing_enable
        getattr(model.encoder, "activation_checkpointing_enable", old)({"use_reentrant": False})
    if speed.compile:
        for layer in [
            *encoder_layers(model),
            *(module for module in model.modules() if isinstance(module, HighwayGate)),
        ]:
            layer.forward = torch.compile(layer.forward, dynamic=True)
