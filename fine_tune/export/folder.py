"""The folder of an export: made in full, checked, then put in its place; found again by those who read it.

It holds a HuggingFace folder, `onnx/model.onnx`, `onnx/model_int8.onnx`, a card, `lean.py`, which runs the latter two
without PyTorch, and `export.json`: what was measured, from which checkpoint, with which versions.
"""

import importlib.metadata
import logging
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from fine_tune.data.tokens import Split, load_split
from fine_tune.export import lean
from fine_tune.export.card import card
from fine_tune.export.check import LARGEST, by_transformers, largest_difference, split_logits
from fine_tune.export.huggingface import of_words, read_model, write_model
from fine_tune.export.onnx import classify, needs, write_int8, write_onnx
from fine_tune.files import digest, read_json, replace_folder, write_json, write_text
from fine_tune.hardware.device import resolve_device
from fine_tune.model.families import PROBLEM_TYPES
from fine_tune.model.load import Loaded, load_run
from fine_tune.path import architecture_of
from fine_tune.scores.efficiency import parameters
from fine_tune.scores.metrics import score
from fine_tune.scores.predict import predict
from fine_tune.tasks.table import Task

logger = logging.getLogger(__name__)

EXPORT, ABOUT, CARD, WEIGHTS = "export", "export.json", "README.md", "model.safetensors"
PACKAGES = ("torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime")


def export(
    loaded: Loaded, task: Task, folder: Path, forms: Sequence[str], dataset: str, max_loss: float, overwrite: bool
) -> dict[str, Any]:
    """Export a run.

    Args:
        loaded: The run.
        task: Its task.
        folder: Where to.
        forms: `onnx` and `int8`, if they are wanted beside the HuggingFace folder.
        dataset: The split to score on.
        max_loss: What int8 may lose there of the task's first metric.
        overwrite: Replace an older export.

    Returns:
        What `export.json` says.

    Raises:
        ValueError: A form differs or loses too much, or packages are not installed. Nothing is left.
        OSError: The folder is not free, or cannot be written.
    """
    check_free(folder, overwrite)
    if forms:
        needs("onnx", "onnxscript", "onnxruntime")
    elif of_words(loaded):
        kind = loaded.model.encoder.config.network
        raise ValueError(f"{kind}: transformers has no class for networks on word vectors; give --onnx or --int8")
    rows = labelled_rows(loaded, task, dataset, "int8" in forms)
    about: dict[str, Any] = {}

    def fill(building: Path) -> None:
        measures = write_forms(loaded, task, building, forms, rows)
        check_loss(measures, task, dataset, max_loss)
        about.update(facts(loaded, task, rows, dataset, measures))
        write_json(building / ABOUT, about)
        write_text(building / CARD, card(about))
        for file in building.rglob("*.*"):  # the library's weights are for their owner alone
            shutil.copymode(building / ABOUT, file)

    replace_folder(folder, fill)
    return about


def check_free(folder: Path, overwrite: bool) -> None:
    """Make sure that nothing is lost but an older export, and that only with `--overwrite`.

    Raises:
        FileExistsError: Something would be.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / ABOUT).is_file():
        raise FileExistsError(f"{folder} is no export (it has no {ABOUT}); it is left alone; name another --out")
    if not overwrite:
        raise FileExistsError(f"{folder} exists; pass --overwrite to replace it, or name another --out")


def labelled_rows(loaded: Loaded, task: Task, dataset: str, needed: bool) -> Split | None:
    """Read the rows to score on; None, with a warning, where the task's files are not there and need not be.

    Raises:
        ValueError: They have no labels.
        FileNotFoundError: They are not there, and int8's loss is to be measured.
    """
    if not task.is_labelled(dataset):
        raise ValueError(f"--dataset {dataset}: this split of {task.name} has no labels, so nothing can be measured")
    try:
        return load_split(task, dataset, loaded.tokenizer, loaded.max_seq_len)
    except FileNotFoundError as error:
        if needed:
            raise FileNotFoundError(f"int8's loss is measured on --dataset {dataset}: {error}") from None
        logger.warning("no scores: %s", error)
        return None


def write_forms(
    loaded: Loaded, task: Task, folder: Path, forms: Sequence[str], rows: Split | None
) -> dict[str, dict[str, Any]]:
    """Write every form and measure it: its file, MB, largest difference of a logit, scores.

    Raises:
        ValueError: One in float32 differs from the checkpoint.
    """
    measures: dict[str, dict[str, Any]] = {}

    def measure(form: str, file: str, difference: float, logits: Callable[[Split], Tensor]) -> None:
        if form != "int8" and not difference <= LARGEST:
            raise ValueError(
                f"{form}: a logit differs by {difference:.2g} from the checkpoint's, more than {LARGEST:g}: it "
                "would be another model; nothing was written"
            )
        scores = score(rows, logits(rows)) if rows else {}
        size = (folder / file).stat().st_size / 1e6
        measures[form] = {
            "file": file, "MB": round(size, 2), "difference": difference,
            "scores": {name: scores[name] for name in task.metrics if scores},
        }  # fmt: skip

    write_model(loaded, task, folder)
    if not of_words(loaded):
        difference = largest_difference(loaded, by_transformers(read_model(folder)))
        measure("torch", WEIGHTS, difference, lambda rows: predict(loaded.model, rows, 32, resolve_device(-1)))
    if forms:
        (folder / "onnx").mkdir()
        shutil.copyfile(lean.__file__, folder / "lean.py")
        write_onnx(loaded.model, folder / lean.FILES["onnx"])
        if "int8" in forms:
            write_int8(folder / lean.FILES["onnx"], folder / lean.FILES["int8"])
    for form in ("onnx", "int8") if "int8" in forms else forms:
        run = lean.open_network(folder / lean.FILES[form])
        difference = largest_difference(loaded, partial(classify, run))
        measure(form, lean.FILES[form], difference, partial(split_logits, run, batch_size=lean.BATCH[form]))
    return measures


def check_loss(measures: dict[str, dict[str, Any]], task: Task, dataset: str, max_loss: float) -> None:
    """Refuse an int8 form that loses too much.

    Raises:
        ValueError: It does.
    """
    if "int8" not in measures:
        return
    metric = task.metrics[0]
    whole, small = (measures[form]["scores"][metric] for form in ("onnx", "int8"))
    if not whole - small <= max_loss:
        raise ValueError(
            f"int8: {metric} on {dataset} falls from {whole:.4f} to {small:.4f}, by more than --max_loss {max_loss:g}; "
            "nothing was written; leave --int8 out, or allow more"
        )


def facts(loaded: Loaded, task: Task, rows: Split | None, dataset: str, forms: dict[str, Any]) -> dict[str, Any]:
    """Gather what `export.json` says."""
    config, model = loaded.config, loaded.model
    return {
        "experiment": config["experiment"],
        "task": task.name,
        "method": config.get("method", "a released script"),
        "teacher": config.get("teacher_exp", ""),
        "architecture": config["model"],
        "sizes": {"layers": model.num_layers, "width": model.width, "parameters": parameters(model)},
        "step": loaded.step,
        "checkpoint_sha256": digest(loaded.checkpoint),
        "text": list(task.text),
        "labels": list(task.label_names),
        "problem_type": PROBLEM_TYPES[task.kind],
        "max_seq_len": loaded.max_seq_len,
        "dataset": dataset,
        "rows": len(rows) if rows else 0,
        "forms": forms,
        "versions": {name: version for name in PACKAGES if (version := installed(name))},
    }


def installed(package: str) -> str:
    """Give the version of a package, "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def teacher_export(loaded: Loaded, task: Task) -> list[tuple[str, Path]]:
    """Find name and export of a run's teacher; none of a run without a teacher.

    Raises:
        FileNotFoundError: The teacher is not there, or was not exported.
        ValueError: Its export is of another checkpoint.
    """
    if not (name := loaded.config.get("teacher_exp")):
        return []
    model = loaded.config.get("tmodel") or architecture_of(name, task.name)
    teacher = load_run(name, model, task, loaded.config.get("tckpt"), None, "--tckpt")
    return [(name, exported(teacher, "onnx", task))]


def exported(loaded: Loaded, form: str, task: Task) -> Path:
    """Find the export of a run in its folder, with this form in it.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It was made from another checkpoint.
    """
    folder, config = loaded.folder / EXPORT, loaded.config
    make = f"python export_model.py --experiment {config['experiment']} --task {task.name} --{form}"
    if not (folder / lean.FILES[form]).is_file():
        again = " --overwrite" if (folder / ABOUT).is_file() else ""
        raise FileNotFoundError(f"{folder / lean.FILES[form]} is not there; make it with: {make}{again}")
    if read_json(folder / ABOUT).get("checkpoint_sha256") != digest(loaded.checkpoint):
        raise ValueError(
            f"{folder} was made from another checkpoint than {loaded.step}; make it anew: {make} --overwrite"
        )
    return folder
