"""A classifier as ONNX in float32 and in int8, of any number of rows and tokens, and run again.

Inputs are those of transformers: `input_ids`, `attention_mask`, `token_type_ids`, int64; those that the model does not
read are left out. What the exporter notes of the source code, local paths among it, is removed.
"""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fine_tune.data.tokens import Inputs
from fine_tune.export.lean import Run
from fine_tune.files import first_line, write_whole
from fine_tune.model.classifier import Classifier

OPSET = 18
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def needs(*packages: str) -> None:
    """Refuse to go on without packages.

    Raises:
        ValueError: With the command that installs them.
    """
    if absent := [package for package in packages if importlib.util.find_spec(package) is None]:
        raise ValueError(f"ONNX needs {', '.join(absent)}: pip install -r requirements-export.txt")


class Logits(nn.Module):
    """A classifier that gives its logits (B, C) alone."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Classify a batch."""
        logits: Tensor = self.model(input_ids, attention_mask, token_type_ids).logits
        return logits


def write_onnx(model: Classifier, file: Path, opset: int = OPSET) -> None:
    """Write a classifier as ONNX, whole or not at all; it is in evaluation mode, and stays so.

    Raises:
        ValueError: Packages are not installed, or torch cannot write this model.
        OSError: The file cannot be written.
    """
    needs("onnx", "onnxscript")
    inputs = tuple(torch.full((2, 12), int(name != NAMES[2])) for name in NAMES)  # one tensor twice would be one input
    wrapped = Logits(model).eval()  # else the exporter would leave the model in training mode

    def write(part: Path) -> None:
        try:
            with quiet():
                torch.onnx.export(
                    wrapped, inputs, str(part), input_names=NAMES, output_names=["logits"], opset_version=opset,
                    dynamo=True, external_data=False, dynamic_shapes=({0: "rows", 1: "tokens"},) * len(NAMES),
                )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            kind = model.encoder.config.model_type
            raise ValueError(f"torch's exporter cannot write a {kind} as ONNX: {first_line(error)}") from None
        strip(part)

    write_whole(file, write)


def write_int8(file: Path, made: Path) -> None:
    """Write an ONNX file again with weights in int8, a scale for each output channel; activations follow as they come.

    Raises:
        ValueError: Packages are not installed.
        OSError: The file cannot be written.
    """
    needs("onnx", "onnxruntime")
    from onnxruntime.quantization import quantize_dynamic

    def write(part: Path) -> None:
        with quiet():
            quantize_dynamic(file, part, per_channel=True)
        strip(part)

    write_whole(made, write)


def strip(file: Path) -> None:
    """Remove what the exporter notes beside the network: names of modules, lines of source, paths."""
    import onnx

    model = onnx.load(file)
    graph = model.graph
    parts = [graph, *graph.initializer, *graph.input, *graph.output]
    for scope in (graph, *model.functions):
        parts += [scope, *scope.node, *scope.value_info]
    for part in (model, *parts):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, file)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' progress and advice from the user, and their loggers as they were."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def classify(run: Run, inputs: Inputs) -> NDArray[np.float32]:
    """Run an ONNX model on a batch (B, S) of a split: logits (B, C)."""
    ids, mask, types = (inputs[name] for name in NAMES)
    assert ids is not None and types is not None
    mask = torch.ones_like(ids) if mask is None else mask
    return run({name: value.numpy() for name, value in zip(NAMES, (ids, mask, types), strict=True)})
