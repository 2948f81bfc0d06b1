"""A run as a folder that transformers loads: configuration with the names of the classes, weights, tokenizer."""

import copy
import os
from pathlib import Path

from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from fine_tune.files import read_json, write_json
from fine_tune.model.families import PROBLEM_TYPES, to_transformers
from fine_tune.model.load import Loaded
from fine_tune.model.words import WordConfig
from fine_tune.tasks.table import Task

UNTRUE = {"is_local", "local_files_only", "max_length", "name_or_path"}
"""What a tokenizer notes of where it was read, and of the length at which it last cut."""


def of_words(loaded: Loaded) -> bool:
    """Whether a model is a network on word vectors, for which the library has no classifier."""
    return isinstance(loaded.model.encoder.config, WordConfig)


def write_model(loaded: Loaded, task: Task, folder: Path) -> None:
    """Write the model into a folder; of a network on word vectors its configuration alone."""
    if of_words(loaded):
        config = copy.deepcopy(loaded.model.encoder.config)
        config.id2label = dict(enumerate(task.label_names))
        config.label2id = {name: number for number, name in enumerate(task.label_names)}
        config.problem_type = PROBLEM_TYPES[task.kind]
        config.save_pretrained(folder)
    else:
        to_transformers(loaded.model, task.label_names, PROBLEM_TYPES[task.kind]).save_pretrained(folder)
    write_tokenizer(loaded.tokenizer, loaded.max_seq_len, folder)


def write_tokenizer(tokenizer: PreTrainedTokenizerFast, tokens: int, folder: Path) -> None:
    """Write a tokenizer that cuts texts at the model's own length, and knows no folder of this machine."""
    own = copy.deepcopy(tokenizer)
    own.model_max_length = tokens
    own.backend_tokenizer.no_truncation()
    own.backend_tokenizer.no_padding()
    own.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    values = {name: value for name, value in read_json(file).items() if name not in UNTRUE}
    write_json(
        file, {name: value for name, value in values.items() if not (isinstance(value, str) and os.path.isabs(value))}
    )


def read_model(folder: Path) -> PreTrainedModel:
    """Read a classifier from a folder, in evaluation mode.

    Raises:
        ValueError: The library cannot read it, or its classifier has no weights there and would start at random.
    """
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a stranger's folder can make the library raise any of Python's
        raise ValueError(f"{folder}: transformers cannot read a classifier there: {first_words(error)}") from None
    if absent := sorted(info["missing_keys"]):
        raise ValueError(f"{folder}: {len(absent)} weights are missing, {absent[0]} among them; has it a classifier?")
    if mismatched := sorted(info.get("mismatched_keys") or ()):
        raise ValueError(f"{folder}: weights of another size than config.json says, {mismatched[0]} among them")
    # The weights lie in the file's memory, not aligned as new ones are; a copy computes to the last bit as those do.
    return copy.deepcopy(model).eval().requires_grad_(False)


def first_words(error: Exception) -> str:
    """Cut a library's message down to one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
