"""Models in PyTorch as readers of texts: a run, or any folder that transformers loads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fine_tune.data.tokens import load_tokenizer
from fine_tune.export.check import by_transformers
from fine_tune.export.huggingface import read_model
from fine_tune.export.lean import About, Model, describe
from fine_tune.flags.parser import Flags
from fine_tune.hardware.device import to_device
from fine_tune.hub import WEIGHTS
from fine_tune.model.families import PROBLEM_TYPES
from fine_tune.model.load import Loaded
from fine_tune.model.placement import place
from fine_tune.tasks.table import Task


def run_model(loaded: Loaded, task: Task, device: torch.device) -> Model:
    """Read texts by a run's model."""
    place(loaded.model, device, Flags({}))

    @torch.no_grad()
    def run(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        tensors = to_device({name: torch.from_numpy(value) for name, value in inputs.items()}, device)
        mask = tensors["attention_mask"]
        tensors["attention_mask"] = None if inputs["attention_mask"].all() else mask.float()
        found: NDArray[Any] = loaded.model(**tensors).logits.cpu().numpy()
        return found

    padding = loaded.tokenizer.pad_token_id
    about = About(task.label_names, PROBLEM_TYPES[task.kind], loaded.max_seq_len, padding, task.text)
    return Model(about, backend(loaded.tokenizer), run, side=loaded.tokenizer.truncation_side)


def folder_model(folder: Path, device: torch.device) -> Model:
    """Read texts by a folder that transformers loads.

    Raises:
        ValueError: It is no classifier of texts.
        FileNotFoundError: It is not there.
    """
    about, side = describe(folder)
    tokenizer = load_tokenizer(str(folder), "--folder")
    if (folder / "onnx").is_dir() and not any((folder / name).is_file() for name in WEIGHTS):
        raise ValueError(f"--folder {folder}: has no weights for PyTorch; give --format onnx or int8")
    model = read_model(folder).to(device)
    logits = by_transformers(model)

    def run(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        return logits(to_device({name: torch.from_numpy(value) for name, value in inputs.items()}, device))

    return Model(about, backend(tokenizer), run, side=side)


def backend(tokenizer: Any) -> Tokenizer:
    """Copy what cuts text in one of the library's fast tokenizers."""
    return Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
