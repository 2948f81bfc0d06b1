"""A fine-tuned transformer as a teacher: one that `train.py` made, or any run of this project."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from fine_tune.data.tokens import fingerprint, load_tokenizer, lowers
from fine_tune.files import digest
from fine_tune.flags.saved import load_config
from fine_tune.glove.artefacts import name_of
from fine_tune.glove.flags import EncoderConfig
from fine_tune.glove.rows import Rows
from fine_tune.model.load import Loaded, has_own_tokenizer, load_folder

RUN = "run"
"""Folder of the run itself, in the one that `train.py` makes."""


class Taught(NamedTuple):
    """A teacher.

    Attributes:
        name: It stands in the names of its files.
        loaded: The model and what belongs to it.
        order: Which of its classes each class of the rows is.
    """

    name: str
    loaded: Loaded
    order: list[int]


def run_folder(folder: Path, emb_class: str) -> Path:
    """Find the run that a folder stands for: itself, what `train.py` made, or the last that it made of this class.

    Raises:
        FileNotFoundError: There is none.
    """
    for found in (folder, folder / RUN, folder / emb_class / RUN):
        if (found / "run.json").is_file() or list(found.glob("model-*.pt")):
            return found
    there = ", ".join(sorted(path.name for path in folder.glob("[!.]*"))) or "nothing"
    raise FileNotFoundError(
        f"--bert_output_dir {folder}: no fine-tuned {emb_class} (it has {there}); train.py with a {emb_class} "
        "configuration makes one"
    )


def load_taught(folder: Path, emb_class: str, names: Sequence[str]) -> Taught:
    """Load a teacher.

    Args:
        folder: What `--bert_output_dir` names.
        emb_class: Its architecture, from `--config`.
        names: The classes of the rows.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is of another architecture, or has other classes.
    """
    found = run_folder(folder, emb_class)
    values = load_config(found, "--bert_output_dir")
    loaded = load_folder(found, values, None, None, "--bert_output_dir")
    kind = loaded.model.encoder.config.model_type
    if kind != emb_class:
        raise ValueError(f"--bert_output_dir {folder}: is a {kind}, but --config is of a {emb_class}")
    own = [str(name) for _, name in sorted(loaded.model.encoder.config.id2label.items())]
    if set(own) != set(names):
        raise ValueError(f"--bert_output_dir {folder}: its classes are {', '.join(own)}, the rows' {', '.join(names)}")
    return Taught(values.get("teacher") or name_of(str(found)), loaded, [own.index(name) for name in names])


def encoder_tokenizer(cfg: EncoderConfig) -> PreTrainedTokenizerFast:
    """Load the tokenizer of an encoder, or of a run of this project.

    Raises:
        ValueError: There is none, or it cannot lower-case.
    """
    folder = Path(cfg.bert_model_name_or_path)
    source = str(folder / "tokenizer") if has_own_tokenizer(folder) else cfg.bert_model_name_or_path
    revision = {} if folder.is_dir() else {"revision": cfg.bert_revision}
    tokenizer = load_tokenizer(source, "--bert_model_name_or_path", **revision)
    if cfg.bert_do_lower_case and not lowers(tokenizer):
        tokenizer = load_tokenizer(source, "--bert_model_name_or_path", **revision, do_lower_case=True)
        if not lowers(tokenizer):
            raise ValueError(f"--bert_do_lower_case: the tokenizer of {source} keeps capitals; leave the flag out")
    return tokenizer


def made_from(rows: Rows, tokenizer: PreTrainedTokenizerFast, n_ctx: int, names: Sequence[str]) -> str:
    """Say what `.fs` is made from."""
    about: dict[str, Any] = {
        "tokenizer": fingerprint(tokenizer)[:16],
        "n_ctx": n_ctx,
        "rows": digest(rows.file)[:16],
        "classes": list(names),
    }
    return json.dumps(about)
