"""How a student starts: which weights are copied from where.

Source: released code, which copies mapped layers and pooler of the pre-trained encoder through a key list and
non-strict loading, so that the embeddings silently stay random.

Departures:
1. The embeddings are copied too (`--no_init_embeddings` gives the released start).
2. The source is the fine-tuned teacher or the pre-trained encoder (`--init_from`; default and why: doc/methods/lad.md).
3. What was copied and what stayed random is returned, and logged by the caller.
4. Source and student may be of any family, the same one or a BERT of a family whose layers compute the same.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import BertModel, PreTrainedModel

from fine_tune.layer_map import LayerMap
from fine_tune.model.architectures import FAMILIES, SAME, first_position
from fine_tune.model.classifier import encoder_layers

Weights = dict[str, Tensor]


@torch.no_grad()
def init_student(
    student: PreTrainedModel, source: PreTrainedModel, layers: LayerMap, embeddings: bool
) -> dict[str, str]:
    """Copy `layers` (by student layer, 0-based), the pooler and the embeddings of `source` into `student`.

    So is what layers of some families share, such as embeddings of distances. Position rows are cut to those that the
    student has.

    Returns:
        For every part of the student, where its weights come from.

    Raises:
        ValueError: The sizes do not allow a copy.
    """
    origin = {"embeddings": "random"}
    wanted, given = encoder_layers(student), encoder_layers(source)
    if max(layers.values()) >= len(given):
        raise ValueError(f"cannot copy layer {max(layers.values()) + 1}: the source has {len(given)}")
    if getattr(student, "pooler", None) is not None:
        origin["pooler"] = "random"
        if getattr(source, "pooler", None) is not None:
            copy_part("pooler", student.pooler, source.pooler.state_dict())
            origin["pooler"] = "copied"
    own = student.config.model_type == source.config.model_type
    names = SAME if own else FAMILIES[source.config.model_type].as_bert or SAME
    for number, layer in layers.items():
        copy_part(f"layer {number + 1}", wanted[number], renamed(given[layer].state_dict(), names))
    if embeddings:
        copy_part("embeddings", student.embeddings, embedding_weights(student, source))
        origin["embeddings"] = "copied"
    for name, part in shared_parts(student).items():
        copy_part(name, part, source.get_submodule(name).state_dict())
        origin[name] = "copied"
    for number, layer in layers.items():
        origin[f"layer {number + 1}"] = f"copied from layer {layer + 1}"
    return origin


def copy_part(name: str, target: nn.Module, weights: Weights) -> None:
    """Fill a part of a student.

    Raises:
        ValueError: The sizes do not allow it.
    """
    for key, tensor in target.state_dict().items():
        if weights[key].shape != tensor.shape:
            raise ValueError(
                f"cannot copy {name}: {key} is {tuple(weights[key].shape)} in the source but {tuple(tensor.shape)} "
                "in the student; leave the size flags out, or start from --student_init random"
            )
    target.load_state_dict(weights)


def renamed(weights: Weights, names: Mapping[str, str]) -> Weights:
    """Give the weights of a layer the names that a BERT has for them; `names` has the source's by a BERT's."""
    back = {own: name for name, own in names.items()}
    return {
        f"{back.get(part, part)}.{kind}": value
        for key, value in weights.items()
        for part, _, kind in [key.rpartition(".")]
    }


def embedding_weights(student: PreTrainedModel, source: PreTrainedModel) -> Weights:
    """Give a source's embeddings as its student wants them: its positions; segments are 0 where the source has none."""
    weights: Weights = source.embeddings.state_dict()
    wanted = student.embeddings.state_dict()
    rows = "position_embeddings.weight"
    if rows in wanted:
        start = first_position(source.config) - first_position(student.config)
        weights[rows] = weights[rows][start : start + len(wanted[rows])]
    for key, tensor in wanted.items():
        if key.startswith("token_type_embeddings") and key not in weights:
            weights[key] = torch.zeros_like(tensor)
    return weights


def shared_parts(encoder: PreTrainedModel) -> dict[str, nn.Module]:
    """Find what an encoder has beside embeddings, layers and pooler: its layers share it."""
    apart = {encoder, encoder.embeddings, getattr(encoder, "pooler", None), *encoder_layers(encoder)}
    inside = {module for each in apart - {encoder, None} for module in each.modules()}
    return {
        name: module
        for name, module in encoder.named_modules()
        if module not in inside and module is not encoder and module._parameters
    }


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
