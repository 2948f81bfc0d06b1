"""The table of encoder families: where each keeps its layers and the first half of its head, and what it counts from.

One head fits all of them: a linear map of the first token's states, an activation, a linear map. BERT, ALBERT, RoBERTa,
XLM-R and MPNet have the first map and its tanh as the encoder's own pooler; the others have it in the classifier only.
Which of them take a mask that is ready, and our attention: `hardware.cpu.kernels.ATTENTION`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from transformers import PreTrainedConfig

SAME: Mapping[str, str] = MappingProxyType({})
DISTILBERT = MappingProxyType(
    {
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
    }
)


class Family(NamedTuple):
    """What is particular about a family of encoders.

    Attributes:
        layer: Class of its layers in transformers.
        dense: Where the library's classifier keeps the first map of the head; "" in the encoder's pooler.
        out: Where it keeps the last one.
        activation: What follows the first map where the encoder has no pooler; DeBERTa's stands in its configuration.
        as_bert: This family's names of a layer's parts by those of a BERT, where they differ; None if a layer computes
            something else, so that its weights would mean nothing in a BERT.
        half: Whether the library computes it in half precision.
    """

    layer: str
    dense: str = ""
    out: str = "classifier"
    activation: str = ""
    as_bert: Mapping[str, str] | None = None
    half: bool = True


IN_HEAD, IN_POOLER = ("classifier.dense", "classifier.out_proj"), "pooler.dense"
FAMILIES = {
    "bert": Family("BertLayer", as_bert=SAME),
    "albert": Family("AlbertLayer"),
    "roberta": Family("RobertaLayer", *IN_HEAD, as_bert=SAME),
    "xlm-roberta": Family("XLMRobertaLayer", *IN_HEAD, as_bert=SAME),
    "electra": Family("ElectraLayer", *IN_HEAD, "gelu", SAME),
    "distilbert": Family("TransformerBlock", "pre_classifier", "classifier", "relu", DISTILBERT),
    "mpnet": Family("MPNetLayer", *IN_HEAD),
    "deberta": Family("DebertaLayer", IN_POOLER, half=False),
    "deberta-v2": Family("DebertaV2Layer", IN_POOLER),
}
"""By the `model_type` of their configuration."""
LAYERS = {family.layer for family in FAMILIES.values()}

OWN_NAMES = {
    "distilbert": {"intermediate_size": "hidden_dim", "hidden_act": "activation", "hidden_dropout_prob": "dropout"}
}
ABSENT = {"layer_norm_eps": 1e-12, "type_vocab_size": 0}
"""What holds for a family whose configuration does not say."""


def setting(config: PreTrainedConfig, name: str) -> Any:
    """Read a setting of an encoder by the name that it has in a BERT's configuration."""
    own = OWN_NAMES.get(config.model_type, {}).get(name, name)
    return getattr(config, own, ABSENT[name]) if name in ABSENT else getattr(config, own)


def set_settings(config: PreTrainedConfig, values: Mapping[str, Any]) -> None:
    """Change settings of an encoder by the names that they have in a BERT's configuration."""
    own = OWN_NAMES.get(config.model_type, {})
    for name, value in values.items():
        setattr(config, own.get(name, name), value)


def head_activation(config: PreTrainedConfig) -> str:
    """Name what follows the first map of a head that is no pooler of the encoder's; "" where it is."""
    family = FAMILIES.get(config.model_type)
    if family and family.dense == IN_POOLER:
        return str(config.pooler_hidden_act)
    return family.activation if family else ""


def first_position(config: PreTrainedConfig) -> int:
    """Row of the position embeddings that the first token gets: RoBERTa and its kin begin after that of padding."""
    if config.model_type in ("roberta", "xlm-roberta"):
        return int(config.pad_token_id) + 1
    return 2 if config.model_type == "mpnet" else 0  # whatever its padding is


def positions(config: PreTrainedConfig) -> int:
    """Tokens that an encoder has positions for."""
    return int(config.max_position_embeddings) - first_position(config)
