"""`configs/*.json` of the GloVe document: an encoder to fine-tune, or a network on word vectors."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fine_tune import path
from fine_tune.files import read_json

GLOVE = "glove"
TRANSFORMERS = ("bert", "roberta", "electra", "albert", "distilbert", "xlm-roberta")
NETWORKS = dict(zip(("cnn", "densenet-cnn", "densenet-dsa"), path.NETWORKS, strict=True))
"""Names of the networks in these files, and everywhere else."""


def count(value: object) -> bool:
    """Whether a value is a positive integer."""
    return type(value) is int and value > 0


def counts(value: object) -> bool:
    """Whether a value is a list of positive integers."""
    return isinstance(value, list) and bool(value) and all(map(count, value))


def odd_rows(value: object) -> bool:
    """Whether a value is rows, as long as each other, of odd positive integers."""
    rows = isinstance(value, list) and bool(value) and all(map(counts, value))
    return rows and len({len(row) for row in value}) == 1 and all(n % 2 for row in value for n in row)  # type: ignore[attr-defined]


Check = tuple[Callable[[object], bool], str]
COUNT: Check = count, "a positive integer"
BOTH: Mapping[str, Check] = {
    "emb_class": (lambda value: value in (GLOVE, *TRANSFORMERS), f"one of {', '.join((GLOVE, *TRANSFORMERS))}"),
    "enc_class": (lambda value: value in ("cls", *NETWORKS), f"one of cls, {', '.join(NETWORKS)}"),
    "n_ctx": COUNT,
    "dropout": (lambda value: type(value) in (int, float) and 0 <= value < 1, "a number in [0, 1)"),  # type: ignore[operator]
}
WORDS: Mapping[str, Check] = {
    "lowercase": (lambda value: type(value) is bool, "true or false"),
    "token_emb_dim": COUNT,
    "pad_token": (lambda value: value == "<pad>", "<pad>"),
    "pad_token_id": (lambda value: value == 0 and type(value) is int, "0"),
    "unk_token": (lambda value: value == "<unk>", "<unk>"),
    "unk_token_id": (lambda value: value == 1 and type(value) is int, "1"),
}
WINDOWS: Mapping[str, Check] = {"num_filters": COUNT, "kernel_sizes": (counts, "a list of positive integers")}
HIDDEN: Mapping[str, Check] = {"fc_hidden_size": (lambda value: value == 0 or count(value), "0 or a positive integer")}
BLOCK: Mapping[str, Check] = {
    "densenet_kernels": (odd_rows, "rows, of one length, of odd positive integers"),
    "densenet_first_num_filters": COUNT,
    "densenet_num_filters": COUNT,
    "densenet_last_num_filters": COUNT,
}
HEADS: Mapping[str, Check] = {"dsa_num_attentions": COUNT, "dsa_dim": COUNT, "dsa_r": COUNT}
OF_NETWORK: Mapping[str, Mapping[str, Check]] = {
    "cls": {},
    "cnn": {**WINDOWS, **HIDDEN},
    "densenet-cnn": {**BLOCK, **WINDOWS},
    "densenet-dsa": {**BLOCK, **HEADS, **HIDDEN},
}
"""What each network has of its own."""


def read_config(file: Path) -> dict[str, Any]:
    """Read a configuration and check every value.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: A key is missing, unknown, or has a value that cannot be.
    """
    if not file.is_file():
        there = ", ".join(sorted(path.name for path in file.parent.glob("*.json"))) or "no .json file"
        raise FileNotFoundError(f"--config {file}: is not there; {file.parent} has {there}")
    values = read_json(file)
    checks = dict(BOTH)
    check(file, values, checks)
    checks |= {**OF_NETWORK[values["enc_class"]], **(WORDS if values["emb_class"] == GLOVE else {})}
    if (values["emb_class"] == GLOVE) != (values["enc_class"] in NETWORKS):
        raise ValueError(f"{file}: emb_class {values['emb_class']} does not go with enc_class {values['enc_class']}")
    check(file, values, checks)
    if unknown := sorted(set(values) - set(checks)):
        raise ValueError(f"{file}: unknown keys for {values['enc_class']}: {', '.join(unknown)}")
    return values


def check(file: Path, values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Check the values of some keys.

    Raises:
        ValueError: One is missing, or cannot be.
    """
    if missing := sorted(set(checks) - set(values)):
        raise ValueError(f"{file}: missing keys: {', '.join(missing)}")
    for key, (fits, expected) in checks.items():
        if not fits(values[key]):
            raise ValueError(f"{file}: {key} must be {expected}, got {values[key]!r}")


def is_glove(values: Mapping[str, Any]) -> bool:
    """Whether a configuration is of a network on word vectors."""
    return bool(values["emb_class"] == GLOVE)


def shape(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments of `model.words.WordConfig` that a configuration decides."""
    own = {key: values[key] for key in OF_NETWORK[values["enc_class"]]}
    most = {"max_position_embeddings": values["n_ctx"], "dropout": values["dropout"]}
    return {"network": NETWORKS[values["enc_class"]], **own, **most}
