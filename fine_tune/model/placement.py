"""Put a model on its device, in its precision, with its kernels; compile layers or recompute them."""

import sys

import torch
from torch import Tensor, nn

from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import PrecisionConfig, SpeedConfig
from fine_tune.hardware.cpu.kernels import use_cpu_kernels
from fine_tune.hardware.cpu.memory import give_back_gaps
from fine_tune.hardware.precision import set_precision
from fine_tune.model.architectures import FAMILIES
from fine_tune.model.classifier import Classifier, encoder_layers
from fine_tune.model.projection import without_projection

LONG = 2
"""A batch of more than this many times the mean number of tokens recomputes layers on a CPU instead of storing them."""
NEARLY = 0.9
"""A batch of more than this share of the longest one's tokens may set a new peak of memory."""


def place(model: nn.Module, device: torch.device, flags: Flags) -> None:
    """Put a model on its device, in the run's precision, with our kernels on a CPU.

    Args:
        model: The teacher, or a part that is trained. Set `requires_grad` before: frozen matrices are stored in the low
            precision.
        device: Where it runs.
        flags: Resolved precision, and the wish to recompute or compile layers; without these groups plain float32.

    Raises:
        ValueError: The library cannot do that with this model.
    """
    precision, speed = flags.get(PrecisionConfig), flags.get(SpeedConfig) or SpeedConfig()
    classifier, chosen = without_projection(model), (precision and precision.precision) or "fp32"
    if isinstance(classifier, Classifier) and chosen != "fp32":
        check_half(classifier, chosen)
    if device.type == "cpu":
        use_cpu_kernels(model)
    set_precision(model.to(device), chosen)
    if isinstance(classifier, Classifier) and classifier.linear_layer.weight.requires_grad:
        if speed.gradient_checkpointing:
            checkpoint_gradients(classifier)
        elif device.type == "cpu" and not speed.compile:
            checkpoint_long_batches(classifier)
    if speed.compile:
        alone = [module for module in model.modules() if getattr(module, "compiled_alone", False)]
        for layer in [*encoder_layers(model), *alone]:
            layer.forward = torch.compile(layer.forward, dynamic=True)


def check_half(model: Classifier, precision: str) -> None:
    """Refuse half precision for a family that the library computes in float32 only.

    Raises:
        ValueError: It is of one.
    """
    kind = model.encoder.config.model_type
    if kind in FAMILIES and not FAMILIES[kind].half:
        raise ValueError(f"--precision {precision}: the library computes a {kind} in float32 only; leave it out")


def checkpoint_gradients(model: Classifier) -> None:
    """Have a model recompute its layers in the backward pass.

    Raises:
        ValueError: The library cannot for this architecture.
    """
    if not model.encoder.supports_gradient_checkpointing:
        raise ValueError(f"--gradient_checkpointing: the library has none for {model.encoder.config.model_type}")
    # The newer name, where transformers has it: the older one warns.
    old = model.encoder.gradient_checkpointing_enable
    getattr(model.encoder, "activation_checkpointing_enable", old)({"use_reentrant": False})


def checkpoint_long_batches(model: Classifier) -> None:
    """Have a model recompute layers for its longest batches only, which set the peak of memory. Results are the same.

    A batch is long from `LONG` times the mean number of tokens on. Its last layers are stored, as many as take no more
    than all layers of a batch of `LONG` times the mean. Before and after a batch near the longest seen, free heap
    memory is returned to the system.
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
