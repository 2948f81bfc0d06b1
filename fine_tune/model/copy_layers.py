"""How a student starts: which weights are copied from where.

Source: released code, which copies mapped layers and pooler of the pre-trained encoder through a key list and
non-strict loading, so that the embeddings silently stay random.

Departures:
1. The embeddings are copied too (`--no_init_embeddings` gives the released start).
2. The source is the fine-tuned teacher or the pre-trained encoder (`--init_from`; default and why: doc/methods/lad.md).
3. What was copied and what stayed random is returned, and logged by the caller.
"""

import torch
from transformers import BertModel

from fine_tune.layer_map import LayerMap


@torch.no_grad()
def init_student(student: BertModel, source: BertModel, layers: LayerMap, embeddings: bool) -> dict[str, str]:
    """Copy `layers` (by student layer, 0-based), the pooler and the embeddings of `source` into `student`.

    Position rows are cut to the student's `max_position_embeddings`.

    Returns:
        For every part of the student, where its weights come from.

    Raises:
        ValueError: The sizes do not allow a copy.
    """
    origin = {"embeddings": "random"}
    pairs = [("pooler", student.pooler, source.pooler)]
    if max(layers.values()) >= len(source.encoder.layer):
        raise ValueError(f"cannot copy layer {max(layers.values()) + 1}: the source has {len(source.encoder.layer)}")
    pairs += [
        (f"layer {number + 1}", student.encoder.layer[number], source.encoder.layer[layer])
        for number, layer in layers.items()
    ]
    if embeddings:
        pairs.append(("embeddings", student.embeddings, source.embeddings))
    for name, target, given in pairs:
        weights = given.state_dict()
        for key, tensor in target.state_dict().items():
            if key.startswith("position_embeddings"):
                weights[key] = weights[key][: tensor.shape[0]]
            if weights[key].shape != tensor.shape:
                raise ValueError(
                    f"cannot copy {name}: {key} is {tuple(weights[key].shape)} in the source but {tuple(tensor.shape)} "
                    "in the student; leave the size flags out, or start from --student_init random"
                )
        target.load_state_dict(weights)
        origin[name] = "copied"
    for number, layer in layers.items():
        origin[f"layer {number + 1}"] = f"copied from layer {layer + 1}"
    return origin


@torch.no_grad()
def init_attention(student: BertModel, source: BertModel, layers: LayerMap) -> dict[str, str]:
    """Copy the linear maps of the attention (query, key, value, output) of `layers`; all else stays as it is.

    Args:
        student: The student.
        source: A model of the same width and heads.
        layers: By student layer, 0-based.

    Returns:
        For every part of the student, where its weights come from.
    """
    for number, layer in layers.items():
        target, given = student.encoder.layer[number].attention, source.encoder.layer[layer].attention
        for name in ("query", "key", "value"):
            getattr(target.self, name).load_state_dict(getattr(given.self, name).state_dict())
        target.output.dense.load_state_dict(given.output.dense.state_dict())
    attention = {f"layer {number + 1}": f"attention copied from layer {layer + 1}" for number, layer in layers.items()}
    return {"all else": "random", **attention}
