"""AdamW for an embedding of which a batch reads a few hundred of 30,000 rows; the others are updated later.

AdamW moves a row that has no gradient, too: its momentum goes on and fades, its weights decay. Written out for a row
with moments m and v, last brought up to date at update l, the updates l+1..T without a gradient are

    w <- w D_T / D_l - m sum_t (D_T / D_t) (lr_t / c1_t) b1^(t-l) / (sqrt(v b2^(t-l) / c2_t) + eps)
    m <- m b1^(T-l)    v <- v b2^(T-l)

with D_t = prod_{k<=t} (1 - lr_k weight_decay), c1_t = 1 - b1^t, c2_t = 1 - b2^t. The sum depends on the row through
sqrt(v) alone; where eps is small beside it, and where eps is large beside it, one number per l gives it, so that one
division makes up for any number of updates. A row catches up when it is next read, all rows before weights are saved.

Departure: between the two limits, gradients of about the size of eps, the sum is an approximation: after some hundred
updates such rows are within 1 or 2 % of the distance they moved. Measured in tests/test_lazy.py, against float64.
"""

import math

import torch
from torch import Tensor, nn

from fine_tune.flags.shared import OptimConfig
from fine_tune.hardware.cpu.memory import untouched_zeros

NEGLIGIBLE = 1e-20
"""Share of a row's momentum that moves it no more."""
STATE = ("now", "exp_avg", "exp_avg_sq", "reached", "without_eps", "without_v", "decay")


class LazyRows:
    """The AdamW moments of an embedding, and the update that each of its rows has reached.

    Args:
        embedding: (V, D) on the CPU; from now on its gradient is sparse, and rows catch up when they are looked up.
        config: Optimiser settings.
        total_step: Updates in all.

    Raises:
        ValueError: beta1 is not below beta2: old momentum would outlast the scale it is divided by.
    """

    def __init__(self, embedding: nn.Embedding, config: OptimConfig, total_step: int) -> None:
        if config.beta1 >= config.beta2:
            raise ValueError(
                f"--beta1 {config.beta1} is not below --beta2 {config.beta2}, as rows that wait for their updates need "
                "it; pass --no_lazy_embedding"
            )
        embedding.sparse = True
        self.weight = embedding.weight
        self.config = config
        self.now = 0
        self.exp_avg = untouched_zeros(self.weight)
        self.exp_avg_sq = untouched_zeros(self.weight)
        self.reached = torch.zeros(len(self.weight), dtype=torch.int64)  # (V,)
        # For every l: the sum over t, over D_T, where eps = 0 (times sqrt(v)) and where v = 0 (times eps); and D_l.
        self.without_eps, self.without_v = torch.zeros(2, total_step + 1, dtype=torch.float64)
        self.decay = torch.ones(total_step + 1, dtype=torch.float64)
        self.window = math.ceil(math.log(NEGLIGIBLE) / math.log(config.beta1)) if config.beta1 else 1
        embedding.register_forward_pre_hook(lambda _, inputs: self.catch_up(inputs[0].unique()))

    @torch.no_grad()
    def catch_up(self, rows: Tensor | None = None) -> None:
        """Make the updates that some distinct `rows` have missed; without rows, those of all."""
        rows = torch.arange(len(self.weight)) if rows is None else rows
        rows = rows[self.reached[rows] < self.now]
        reached = self.reached[rows]
        missed = (self.now - reached).double()
        without_eps, without_v, decay = (table[reached] for table in (self.without_eps, self.without_v, self.decay))
        m, v, now = self.exp_avg[rows], self.exp_avg_sq[rows], self.decay[self.now]
        eps = self.config.eps * (without_eps / without_v).nan_to_num(1.0)  # 0 / 0 while the learning rate is 0
        move = m * column(without_eps * now) / (v.sqrt() + column(eps))
        self.weight[rows] = self.weight[rows] * column(now / decay) - move
        self.reached[rows] = self.now
        moved = m.any(1) | v.any(1)  # of other rows the moments stay untouched
        self.exp_avg[rows[moved]] = (m * column(self.config.beta1**missed))[moved]
        self.exp_avg_sq[rows[moved]] = (v * column(self.config.beta2**missed))[moved]

    def gradient(self) -> Tensor:
        """Sum the gradient by row; its values (rows, D) are the `grad` of the returned tensor, to be clipped there."""
        assert self.weight.grad is not None
        self.weight.grad = self.weight.grad.coalesce()
        values = self.weight.grad.values()
        holder = torch.empty_like(values)
        holder.grad = values
        return holder

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update the rows that have a gradient (see `gradient`), note the update for the others, drop the gradient."""
        assert self.weight.grad is not None
        rows, grad = self.weight.grad.indices()[0], self.weight.grad.values()
        self.weight.grad = None
        beta1, beta2, decay = self.config.beta1, self.config.beta2, 1 - lr * self.config.weight_decay
        self.now += 1
        now, correction1, correction2 = self.now, 1 - beta1**self.now, math.sqrt(1 - beta2**self.now)

        self.decay[now] = self.decay[now - 1] * decay
        recent = slice(max(0, now - self.window), now)
        age = now - torch.arange(recent.start, now, dtype=torch.float64)
        share = lr / correction1 * beta1**age / self.decay[now]
        self.without_v[recent] += share
        self.without_eps[recent] += share * correction2 / beta2 ** (age / 2)

        m = torch.lerp(self.exp_avg[rows], grad, 1 - beta1)
        v = self.exp_avg_sq[rows].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        move = m / (v.sqrt() / correction2).add_(self.config.eps)
        self.weight[rows] = (self.weight[rows] * decay).add_(move, alpha=-lr / correction1)
        self.exp_avg[rows], self.exp_avg_sq[rows] = m, v
        self.reached[rows] = now

    def state_dict(self) -> dict[str, Tensor | int]:
        """Give everything but the weights themselves."""
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restore what `state_dict` gave."""
        for name in STATE:
            setattr(self, name, state[name])


def column(values: Tensor) -> Tensor:
    """Turn (N,) float64 into (N, 1) float32."""
    return values.float().unsqueeze(1)
