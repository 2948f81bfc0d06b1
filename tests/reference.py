"""The method in float64 NumPy, written from its equations alone; shapes: B batch, S tokens, D width, C classes."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Block = tuple[tuple[Array, Array], tuple[Array, Array]]
"""Weight and bias of a gate's `linear`, and of its `layernorm`."""


def opening(previous: Array, linear: tuple[Array, Array]) -> Array:
    """g = sigmoid(W a + b)."""
    weight, bias = linear
    return 1 / (1 + np.exp(-(previous @ weight.T + bias)))


def gate(
    previous: Array, current: Array, linear: tuple[Array, Array], affine: tuple[Array, Array],
    mask: Array | None = None, norm: str = "seq",
) -> Array:  # fmt: skip
    """Layernorm of g * current + (1 - g) * previous, g = `opening`.

    Over the (real) tokens and the width together (`seq`), or over the width of each token (`token`).
    """
    g = opening(previous, linear)
    mixed = current * g + previous * (1 - g)
    result = np.zeros_like(mixed)
    for row in range(len(mixed)):
        real = np.ones(mixed.shape[1], bool) if mask is None else mask[row].astype(bool)
        for position in np.flatnonzero(real):
            values = (mixed[row][real] if norm == "seq" else mixed[row, position]).ravel()
            mean, variance = values.sum() / values.size, ((values - values.mean()) ** 2).sum() / values.size
            normal = (mixed[row, position] - mean) / np.sqrt(variance + 1e-5)
            result[row, position] = normal * affine[0][position] + affine[1][position]
    return result


def chain(
    states: list[Array], blocks: dict[int, Block], layer_map: dict[int, int], mask: Array | None = None,
    reverse: bool = False, norm: str = "seq",
) -> dict[int, Array]:  # fmt: skip
    """a_1 = t_1, a_i = gate_i(a_{i-1}, t_i), or from the last layer down; `blocks` by 0-based teacher layer."""
    layers = list(range(len(states)))[:: -1 if reverse else 1]
    aggregates = {layers[0]: states[layers[0]]}
    for before, layer in zip(layers, layers[1:], strict=False):
        if layer not in blocks:
            break
        aggregates[layer] = gate(aggregates[before], states[layer], *blocks[layer], mask, norm)
    return {student: aggregates[layer] for student, layer in layer_map.items()}


def pairs(
    states: list[Array], blocks: dict[int, Block], layer_map: dict[int, int], mask: Array | None = None,
    norm: str = "seq",
) -> dict[int, Array]:  # fmt: skip
    """LAD-NO: gate_i(t_{i-1}, t_i) for a student layer that follows i; `states` ends with the embedding output, t_0."""
    return {
        student: gate(states[layer - 1], states[layer], *blocks[layer], mask, norm)
        for student, layer in layer_map.items()
    }


def attention(student: Array, teachers: list[Array]) -> tuple[Array, Array]:
    """ALP-KD, each position by itself: weights softmax_i(<t_i, s> / sqrt(D)) (B, S, L), target sum_i weight_i t_i."""
    scores = np.stack([(layer * student).sum(-1) / np.sqrt(student.shape[-1]) for layer in teachers], -1)
    weights = softmax(scores.reshape(-1, len(teachers))).reshape(scores.shape)
    return weights, sum(weights[..., i, None] * layer for i, layer in enumerate(teachers))


def unit(vectors: Array) -> Array:
    """PKD: divided by their 2-norms."""
    return vectors / np.sqrt((vectors**2).sum(-1, keepdims=True))


def softmax(logits: Array) -> Array:
    """Over the classes."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def hard_loss(logits: Array, label: Array) -> float:
    """Cross-entropy, or the squared error of a score where there is one output."""
    if logits.shape[1] == 1:
        return float(((logits[:, 0] - label) ** 2).mean())
    return float(-np.log(softmax(logits)[np.arange(len(label)), label.astype(int)]).mean())


def soft_loss(student: Array, teacher: Array, temperature: float) -> float:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), batch mean; squared error where there is one output."""
    if student.shape[1] == 1:
        return float(((student - teacher) ** 2).mean())
    t, s = softmax(teacher / temperature), softmax(student / temperature)
    return float(temperature**2 * (t * (np.log(t) - np.log(s))).sum(1).mean())


def hidden_loss(student: list[Array], targets: dict[int, Array], mask: Array | None = None) -> float:
    """Squared error, sum over layers with a target / L_s; with a mask, over real tokens, then over sentences."""
    losses = []
    for layer, t in targets.items():
        square = (student[layer] - t) ** 2
        if mask is None:
            losses.append(square.mean())
        else:
            losses.append(np.mean([square[row][mask[row].astype(bool)].mean() for row in range(len(square))]))
    return float(sum(losses) / len(student))


def learning_rate(step: int, peak: float, warmup: int, total: int) -> float:
    """Linear warm-up from 0, then linear decay to 0 at `total`; `step` updates have been made."""
    if step < warmup:
        return peak * step / warmup
    return peak * max(total - step, 0) / (total - warmup)


def info_nce(query: np.ndarray, positive: np.ndarray, negatives: np.ndarray, temperature: float) -> float:
    """Contrast with one positive and K negatives per row, row by row."""
    total = 0.0
    for q, p, others in zip(query, positive, negatives, strict=True):
        near = math.exp(unit(q) @ p / temperature)
        total -= math.log(near / (near + sum(math.exp(unit(q) @ n / temperature) for n in others)))
    return total / len(query)


def sup_con(vectors: np.ndarray, label: np.ndarray, temperature: float) -> float:
    """Supervised contrast, pair by pair; the mean over rows that have a like one."""
    z, losses = [unit(vector) for vector in vectors], []
    for i, own in enumerate(label):
        like = [j for j in range(len(z)) if j != i and label[j] == own]
        among = sum(math.exp(z[i] @ z[a] / temperature) for a in range(len(z)) if a != i)
        if like:
            losses.append(-sum(math.log(math.exp(z[i] @ z[p] / temperature) / among) for p in like) / len(like))
    return sum(losses) / len(losses) if losses else 0.0


def slope(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Gradient of a function by central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        nudge = np.zeros_like(at)
        nudge[place] = step
        found[place] = (function(at + nudge) - function(at - nudge)) / (2 * step)
    return found
