"""AdamW with linear warm-up and linear decay; one `Updater` per group of modules that share a schedule.

Source: released code (linear schedule of transformers; no decay of biases and layer norms, the gates' included).
Departures: the fused AdamW of torch, which differs from the plain one in rounding only.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from fine_tune.config import OptimConfig


def parameter_groups(modules: Iterable[nn.Module], weight_decay: float) -> list[dict[str, object]]:
    """Split parameters in two: those that decay, and biases and layer norms, which do not."""
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            is_norm = "layernorm" in name.lower().replace("_", "")  # BERT: LayerNorm, ALBERT: layer_norm
            (keep if is_norm or name.endswith("bias") else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]


class Updater:
    """Clips, steps, decays the learning rate and clears the gradients of some modules.

    Args:
        modules: Modules to train; the gradient of each is clipped by itself.
        config: Optimiser settings.
        total_step: Update at which the learning rate reaches 0.
        warmup_step: Updates over which it rises to its peak.
    """

    def __init__(self, modules: Sequence[nn.Module], config: OptimConfig, total_step: int, warmup_step: int) -> None:
        """Build optimiser and schedule."""
        self.modules = list(modules)
        self.max_norm = config.max_norm
        groups = parameter_groups(self.modules, config.weight_decay)
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: linear_schedule(step, total_step, warmup_step)
        )

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return float(self.scheduler.get_last_lr()[0])

    def step(self) -> None:
        """Make one update from the gradients gathered so far."""
        for module in self.modules:
            nn.utils.clip_grad_norm_(module.parameters(), self.max_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)


def linear_schedule(step: int, total_step: int, warmup_step: int) -> float:
    """Give the fraction of the peak learning rate after `step` updates."""
    if step < warmup_step:
        return step / warmup_step
    return max(0.0, (total_step - step) / max(1, total_step - warmup_step))
