"""The card of an exported model, `README.md`: what it is, what was measured, how to use it. No network is needed."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from fine_tune.export.lean import MULTI
from fine_tune.files import markdown

FORMS = {"torch": "PyTorch, float32", "onnx": "ONNX, float32", "int8": "ONNX, int8, one text at a time"}
"""What the forms of an export are called to people."""


def card(about: Mapping[str, Any]) -> str:
    """Write the card of an export.

    Args:
        about: What `export.json` says, see `folder.facts`.
    """
    name = f"{about['experiment']} on {about['task']}"
    labels = ", ".join(f"`{label}`" for label in about["labels"])
    parts = [
        f"---\n{metadata(about, name)}\n---",
        f"# {name}",
        made_how(about),
        f"Outputs: {labels} (`{about['problem_type']}`). Input: {' and '.join(about['text'])}, at most "
        f"{about['max_seq_len']} tokens; longer ones are cut{', the longer half of a pair first' * is_pair(about)}.",
        "## Measured",
        measured(about),
        "## Use",
        usage(about),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(about: Mapping[str, Any], name: str) -> str:
    """Write what hubs read, in YAML."""
    scores = scores_of(about)
    results = [
        EvalResult(
            task_type="text-classification", task_name="Text classification", dataset_type=about["task"],
            dataset_name=about["task"], dataset_split=about["dataset"], metric_type=metric,
            metric_value=round(value, 4),
        )
        for metric, value in scores.items()
    ]  # fmt: skip
    data = ModelCardData(
        pipeline_tag="text-classification", tags=["distillation", about["task"]], metrics=list(scores) or None,
        library_name="transformers" if "torch" in about["forms"] else None, model_name=name,
        eval_results=results or None,
    )  # fmt: skip
    return str(data.to_yaml()).strip()


def scores_of(about: Mapping[str, Any]) -> dict[str, float]:
    """Give the scores of the first form; none where nothing was scored."""
    return dict(next(iter(about["forms"].values()))["scores"])


def made_how(about: Mapping[str, Any]) -> str:
    """Say what the model is and how it was trained."""
    sizes = about["sizes"]
    layers = f"{sizes['layers']} layers of width {sizes['width']}" if sizes["layers"] else "a network on word vectors"
    taught = f", from the teacher `{about['teacher']}`" if about["teacher"] else ""
    return (
        f"A {about['architecture']} classifier with {layers}, {sizes['parameters'] / 1e6:.1f} M parameters, trained by "
        f"`{about['method']}`{taught}; checkpoint {about['step']}."
    )


def measured(about: Mapping[str, Any]) -> str:
    """Write the table of sizes, scores and differences."""
    metrics = list(scores_of(about))
    head = ["form", "file", "MB", *metrics, "largest difference of a logit"]
    lines = [head]
    for form, facts in about["forms"].items():
        scores = [f"{facts['scores'][metric]:.4f}" for metric in metrics]
        lines.append([FORMS[form], f"`{facts['file']}`", f"{facts['MB']:.1f}", *scores, f"{facts['difference']:.1e}"])
    table = "\n".join(markdown(lines))
    on = (
        f"Scores: `{about['dataset']}`, {about['rows']} rows."
        if metrics
        else "Not scored: the task's rows were absent."
    )
    return f"{table}\n\n{on} Differences: from the checkpoint, over inputs of five shapes."


def usage(about: Mapping[str, Any]) -> str:
    """Write examples that cut long texts."""
    example = "{'text': 'first text', 'text_pair': 'second text'}" if is_pair(about) else "'a text'"
    text = "('first text', 'second text')" if is_pair(about) else "('a text',)"
    every = ", top_k=None" if about["problem_type"] == MULTI else ""
    found = []
    if "torch" in about["forms"]:
        found += [
            "from transformers import pipeline",
            "",
            f"classify = pipeline('text-classification', model='<this folder>', truncation=True{every})",
            f"print(classify({example}))",
        ]
    if {"onnx", "int8"} & about["forms"].keys():
        form = "int8" if "int8" in about["forms"] else "onnx"
        found += [
            "",
            "# without PyTorch: numpy, tokenizers, onnxruntime and lean.py of this folder",
            "from lean import open_folder",
            "",
            f"print(open_folder('<this folder>', '{form}').answers([{text}]))",
        ]
    return "\n".join(["```python", *found, "```"]).replace("```python\n\n", "```python\n")


def is_pair(about: Mapping[str, Any]) -> bool:
    """Whether the model reads pairs of texts."""
    return len(about["text"]) > 1
