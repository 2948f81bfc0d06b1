"""A classifier of transformers becomes ours, and ours one of theirs, with equal logits; see `architectures`.

Names of weights: `bert.X` there is `encoder.X` here, `classifier` is `linear_layer`; the first map of the head is the
encoder's pooler here if `AutoModel` makes one, and `dense` if not.
"""

import copy
from collections.abc import Sequence

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from fine_tune.model.architectures import FAMILIES
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import with_dropout

PROBLEM_TYPES = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}
"""What transformers calls each kind of task."""


def from_transformers(model: PreTrainedModel, dropout: float, order: Sequence[int] | None = None) -> Classifier:
    """Make a classifier of the library's, `...ForSequenceClassification`, with its weights.

    Args:
        model: The library's.
        dropout: Of the encoder and before the last linear map, where it is trained further.
        order: For each class the number that it has in `model`; None if they are in the same order.

    Raises:
        ValueError: Its family is not known, or it has other weights than the family's classifiers.
    """
    check_family(model.config)
    config = with_dropout(plain(model.config), dropout)
    made = Classifier(AutoModel.from_config(config, dtype=torch.float32), model.config.num_labels, dropout, dense=True)
    pooler = hasattr(made.encoder, "pooler")
    weights = {own_name(name, model, pooler): value for name, value in model.state_dict().items()}
    for name in ("linear_layer.weight", "linear_layer.bias"):
        weights[name] = weights[name] if order is None else weights[name][list(order)]
    try:
        made.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{type(model).__name__}: {' '.join(str(error).split())[:300]}") from None
    return made


def to_transformers(model: Classifier, label_names: Sequence[str], problem_type: str) -> PreTrainedModel:
    """Make the library's classifier of ours: `...ForSequenceClassification`, in eval mode, with equal logits.

    Args:
        model: Ours.
        label_names: What its classes are called, in their order.
        problem_type: One of `PROBLEM_TYPES`.

    Raises:
        ValueError: The library has no such classifier.
    """
    check_family(model.encoder.config)
    pooler = getattr(model.encoder, "pooler", None) is not None
    if not pooler and model.dense is None:
        kind = model.encoder.config.model_type
        raise ValueError(f"transformers has no {kind} that is classified by its first token alone, as this one is")
    config = plain(model.encoder.config)
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: number for number, name in enumerate(label_names)}
    config.problem_type = problem_type
    if hasattr(config, "pooler_hidden_size"):
        config.pooler_hidden_size = config.hidden_size
    made = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    ours = model.state_dict()
    made.load_state_dict({name: ours[own_name(name, made, pooler)].float() for name in made.state_dict()})
    return made.eval()


def check_family(config: PreTrainedConfig) -> None:
    """Refuse a model of a family that is not known.

    Raises:
        ValueError: With those that are.
    """
    if config.model_type not in FAMILIES:
        raise ValueError(f"a model of the family {config.model_type}; known are {', '.join(FAMILIES)}")


def plain(config: PreTrainedConfig) -> PreTrainedConfig:
    """Copy a configuration without what a process has added to it: its attention, say."""
    return type(config).from_dict(copy.deepcopy(config.to_dict()))


def own_name(name: str, model: PreTrainedModel, pooler: bool) -> str:
    """Name a weight of the library's `model` as ours has it; `pooler` says whether our encoder has one."""
    family = FAMILIES[model.config.model_type]
    parts = {
        f"{model.base_model_prefix}.": "encoder.",
        f"{family.dense}.": "encoder.pooler.dense." if pooler else "dense.",
        f"{family.out}.": "linear_layer.",
    }
    return next((ours + name.removeprefix(theirs) for theirs, ours in parts.items() if name.startswith(theirs)), name)
