"""A model where and as it is to run: device, precision, and the layers that are fast there."""

import sys

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

from fine_tune.flags.shared import PrecisionConfig, SpeedConfig
from fine_tune.hardware.cpu.dropout import Dropout
from fine_tune.hardware.cpu.gelu import Gelu
from fine_tune.hardware.cpu.linear import Linear
from fine_tune.hardware.cpu.memory import give_back_gaps
from fine_tune.hardware.precision import set_precision
from fine_tune.model.classifier import Classifier, encoder_layers
from fine_tune.model.gate import HighwayGate
from fine_tune.model.projection import without_projection

FAST: dict[type[nn.Module], type[nn.Module]] = {nn.Dropout: Dropout, nn.Linear: Linear, GELUActivation: Gelu}
"""Modules of the libraries, and those of the same parameters that take their places."""
LONG = 2
"""Times as many tokens as a batch usually has, from which on a CPU computes layers again rather than keep them."""
NEARLY = 0.9
"""Share of the tokens of the longest batch so far, from which on memory may reach a new peak."""


def place(model: nn.Module, device: torch.device, precision: PrecisionConfig, speed: SpeedConfig) -> None:
    """Put a model on its device, in its precision; recompute or compile its layers where the user wishes it.

    Args:
        model: A classifier, gates or a projected student. What learns and what does not must be settled: frozen
            matrices are kept in the low precision.
        device: Its place.
        precision: Resolved; None is fp32.
        speed: The user's wishes.
    """
    for module in model.modules():
        module.__class__ = FAST.get(type(module), type(module))
    set_precision(model.to(device), precision.precision or "fp32")
    classifier = without_projection(model)
    if isinstance(classifier, Classifier):
        learns = classifier.linear_layer.weight.requires_grad
        if device.type == "cpu":
            classifier.encoder.set_attn_implementation("on_cpu")
        if learns and speed.gradient_checkpointing:
            checkpoint_gradients(classifier)
        elif learns and device.type == "cpu" and not speed.compile:
            checkpoint_long_batches(classifier)
    if speed.compile:
        for layer in [
            *encoder_layers(model),
            *(module for module in model.modules() if isinstance(module, HighwayGate)),
        ]:
            layer.forward = torch.compile(layer.forward, dynamic=True)


def checkpoint_gradients(model: Classifier) -> None:
    """Have a model compute its layers again in the backward pass.

    Raises:
        ValueError: The library cannot for this architecture.
    """
    if not model.encoder.supports_gradient_checkpointing:
        raise ValueError(f"--gradient_checkpointing: the library has none for {model.encoder.config.model_type}")
    # The newer name, where transformers has it: the older one warns.
    old = model.encoder.gradient_checkpointing_enable
    getattr(model.encoder, "activation_checkpointing_enable", old)({"use_reentrant": False})


def checkpoint_long_batches(model: Classifier) -> None:
    """Have a model compute layers again for its longest batches alone, if the library can: they set memory's peak.

    Such a batch has more than `LONG` times the tokens that batches had on the mean so far. Of its layers the last ones
    are kept, as many as hold no more than all layers of a batch `LONG` times the mean. Results are the same. Before
    and after those about as long as the longest so far, gaps between tensors are given back.
    """
    if not model.encoder.supports_gradient_checkpointing:
        return
    checkpoint_gradients(model)
    tokens, batches, most, was_peak = 0, 0, 0, False

    def choose(encoder: nn.Module, _: tuple[()], inputs: dict[str, Tensor]) -> None:
        nonlocal tokens, batches, most, was_peak
        if encoder.training:
            now = inputs["input_ids"].numel()
            tokens, batches, most = tokens + now, batches + 1, max(most, now)
            layers = encoder_layers(encoder)
            kept = int(len(layers) * LONG * tokens / (batches * now))
            is_peak = kept < len(layers) and now > NEARLY * most
            if is_peak or was_peak:
                give_back_gaps()
            was_peak = is_peak
            for number, layer in enumerate(layers, 1):
                setattr(layer, "gradient_checkpointing", number + kept <= len(layers))  # noqa: B010 (of some modules)

    model.encoder.register_forward_pre_hook(choose, with_kwargs=True)


def compile_seconds() -> float:
    """Time that torch.compile took in this process so far, in seconds."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return float(dynamo.calculate_time_spent()["total_wall_time"]) if dynamo else 0.0
