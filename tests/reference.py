"""The method in float64 NumPy, written from its equations alone; shapes: B batch, S tokens, D width, C classes."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gate(
    previous: Array, current: Array, linear: tuple[Array, Array], norm: tuple[Array, Array], mask: Array | None = None
) -> Array:
    """g = sigmoid(W a + b); layernorm over the (real) tokens and the width of g * current + (1 - g) * previous."""
    weight, bias = linear
    opening = 1 / (1 + np.exp(-(previous @ weight.T + bias)))
    mixed = current * opening + previous * (1 - opening)
    result = np.zeros_like(mixed)
    for row in range(len(mixed)):
        real = np.ones(mixed.shape[1], bool) if mask is None else mask[row].astype(bool)
        values = mixed[row][real].ravel()
        mean, variance = values.sum() / values.size, ((values - values.mean()) ** 2).sum() / values.size
        for position in np.flatnonzero(real):
            normal = (mixed[row, position] - mean) / np.sqrt(variance + 1e-5)
            result[row, position] = normal * norm[0][position] + norm[1][position]
    return result


def chain(
    states: list[Array], blocks: dict[int, tuple[tuple[Array, Array], tuple[Array, Array]]], layer_map: list[int],
    mask: Array | None = None, reverse: bool = False,
) -> list[Array]:  # fmt: skip
    """a_1 = t_1, a_i = gate_i(a_{i-1}, t_i), or from the last layer down; `blocks` by 0-based teacher layer."""
    layers = list(range(len(states)))[:: -1 if reverse else 1]
    aggregates = {layers[0]: states[layers[0]]}
    for before, layer in zip(layers, layers[1:], strict=False):
        if layer not in blocks:
            break
        aggregates[layer] = gate(aggregates[before], states[layer], *blocks[layer], mask)
    return [aggregates[layer] for layer in layer_map]


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


def hidden_loss(student: list[Array], targets: list[Array], mask: Array | None = None) -> float:
    """Squared error, mean over layers; with a mask, over the real tokens of a sentence, then over sentences."""
    losses = []
    for s, t in zip(student, targets, strict=True):
        square = (s - t) ** 2
        if mask is None:
            losses.append(square.mean())
        else:
            losses.append(np.mean([square[row][mask[row].astype(bool)].mean() for row in range(len(square))]))
    return float(np.mean(losses))


def learning_rate(step: int, peak: float, warmup: int, total: int) -> float:
    """Linear warm-up from 0, then linear decay to 0 at `total`; `step` updates have been made."""
    if step < warmup:
        return peak * step / warmup
    return peak * max(total - step, 0) / (total - warmup)
