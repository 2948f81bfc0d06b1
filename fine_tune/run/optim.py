"""AdamW with linear warm-up and linear decay, for one or more parts of a method that each have a schedule of their own.

Source: released code (linear schedule of transformers; no decay of biases and layer norms).
Departures: torch's fused AdamW, which differs from the plain one in rounding; `lazy_adamw` for word embeddings.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fine_tune.flags.shared import OptimConfig
from fine_tune.run.lazy_adamw import LazyRows

SMALLEST_SCALE = 2.0**-10
"""Loss scale of float16 below which no update will ever be made."""


def parameter_groups(
    modules: Iterable[nn.Module], weight_decay: float, without: Tensor | None = None
) -> list[dict[str, object]]:
    """Split parameters, all but one, in two: those that decay, and biases and layer norms, which do not."""
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter is not without:
                is_norm = "layernorm" in name.lower().replace("_", "")  # BERT: LayerNorm, ALBERT: layer_norm
                (keep if is_norm or name.endswith("bias") else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]


class Part:
    """Modules with a schedule of their own: optimiser, learning rate, clipping.

    Args:
        modules: Modules to train; the gradient of each is clipped by itself.
        config: Optimiser settings.
        total_step: Update at which the learning rate reaches 0.
        warmup_step: Updates over which it rises to its peak.
        lazy: Embedding of the first module, whose rows are updated when they are read, see `lazy_adamw`.
        schedule: Gives the fraction of the learning rate after a number of updates; by default linear, as above.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        config: OptimConfig,
        total_step: int,
        warmup_step: int,
        lazy: nn.Embedding | None = None,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        self.lazy = LazyRows(lazy, config, total_step) if lazy is not None else None
        rows = lazy.weight if lazy is not None else None
        self.clipped = [[weight for weight in module.parameters() if weight is not rows] for module in modules]
        self.max_norm = config.max_norm
        self.device = next((weight.device for weights in self.clipped for weight in weights), torch.device("cpu"))
        groups = parameter_groups(modules, config.weight_decay, without=rows)
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, schedule or (lambda step: linear_schedule(step, total_step, warmup_step))
        )

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return float(self.scheduler.get_last_lr()[0])

    def step(self, scaler: torch.amp.GradScaler) -> Tensor:
        """Clip the gradients gathered so far, make one update, clear them; give their 2-norm before clipping."""
        scaler.unscale_(self.optimizer)
        if self.lazy:
            rows = self.lazy.gradient()
        norms = [
            nn.utils.clip_grad_norm_([*weights, rows] if self.lazy and number == 0 else weights, self.max_norm)
            for number, weights in enumerate(self.clipped)
        ]
        if self.lazy:
            self.lazy.step(self.lr)
        scaler.step(self.optimizer)
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        # The norm of a module without gradients is on the CPU, wherever the module is.
        there = [each.to(self.device) for each in norms]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(there)) if there else torch.zeros(())
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Give moments and schedule, between two updates."""
        lazy = self.lazy.state_dict() if self.lazy else None
        return {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(), "lazy": lazy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.lazy:
            self.lazy.load_state_dict(state["lazy"])


class Updater:
    """Backward passes and updates of the parts of a method.

    Args:
        parts: By the prefix of their flags; "" is the student.
        half: Scale the loss so that float16 gradients do not vanish.
    """

    def __init__(self, parts: Mapping[str, Part], half: bool = False) -> None:
        self.parts = dict(parts)
        self.scaler = torch.amp.GradScaler(enabled=half)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss."""
        self.scaler.scale(loss).backward()

    def step(self) -> dict[str, float | Tensor]:
        """Make one update of every part from the gradients gathered so far.

        Returns:
            The learning rates it was made with, `lr`, and the gradients' 2-norms, `grad_norm`, each after its part's
            prefix; in float16, where infinite gradients are what the loss scale is found by, that scale in their place.

        Raises:
            FloatingPointError: No loss scale is small enough.
        """
        made: dict[str, float | Tensor] = {}
        for prefix, part in self.parts.items():
            made[f"{prefix}lr"], norm = part.lr, part.step(self.scaler)
            if not self.scaler.is_enabled():
                made[f"{prefix}grad_norm"] = norm
        self.scaler.update()
        if self.scaler.is_enabled():
            made["loss_scale"] = scale = self.scaler.get_scale()
            if scale < SMALLEST_SCALE:
                raise FloatingPointError(f"float16: gradients are infinite even at a loss scale of {scale:g}; try bf16")
        return made

    def catch_up(self) -> None:
        """Bring embedding rows that wait for their updates up to date; call it before weights are saved."""
        for part in self.parts.values():
            if part.lazy:
                part.lazy.catch_up()

    def state_dict(self) -> dict[str, Any]:
        """Give the state of every part, and the loss scale."""
        return {
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.scaler.load_state_dict(state["scaler"])


def linear_schedule(step: int, total_step: int, warmup_step: int) -> float:
    """Give the fraction of the peak learning rate after `step` updates."""
    if step < warmup_step:
        return step / warmup_step
    return max(0.0, (total_step - step) / max(1, total_step - warmup_step))
