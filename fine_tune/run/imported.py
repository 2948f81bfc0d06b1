"""A classifier that was fine-tuned elsewhere becomes a run: its classes in the task's order, its answers compared.

1. The library reads the classifier; one of an unknown family, without a head or of other classes is refused.
2. Its classes are matched with the task's by name, and the rows of its last linear map put into that order.
3. Some rows of the task go the library's way and ours; logits that differ by more than `SAME` refuse the import.
4. The run's folder is written like that of a run that was trained here; its checkpoint is number 0.
"""

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from fine_tune.data.tokens import Split, load_split, load_tokenizer
from fine_tune.files import digest, first_line
from fine_tune.flags.shared import ImportConfig
from fine_tune.hub import WEIGHTS
from fine_tune.model.architectures import setting
from fine_tune.model.checkpoint import save_checkpoint
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import BODY, UnsupportedError, from_library
from fine_tune.model.families import PROBLEM_TYPES, check_family, from_transformers
from fine_tune.model.load import check_length, check_segments, check_tokenizer
from fine_tune.path import expanded, run_dir
from fine_tune.run.folder import Contents, check_free, finish_run, open_folder
from fine_tune.run.preflight import check_tokens
from fine_tune.tasks.own import TASK_JSON, to_json
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import Task

logger = logging.getLogger(__name__)

SAME = 1e-5
"""Largest difference of a logit that rounding may explain."""
ROWS = 32
"""Rows on which both are asked."""
STEP = 0
"""Number of the checkpoint: no update was made here."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the run is to be, see `folder.Place`."""

    experiment: str
    folder: Path
    overwrite: bool
    resume: bool = False


def import_teacher(cfg: ImportConfig, task: Task, command: Sequence[str]) -> Path:
    """Import a classifier, see the module docstring; give the run's folder.

    Raises:
        ValueError: It cannot be a teacher of the task, or says something else here than there.
        OSError: The folder is not free, or there are no rows of the task.
    """
    theirs = read_classifier(cfg, task)
    kind = theirs.config.model_type
    folder = run_dir(cfg.experiment, kind, task.name)
    if expanded(cfg.ptrain_ver).resolve().is_relative_to(folder):
        raise ValueError(f"--ptrain_ver {cfg.ptrain_ver}: is in the folder that would be replaced; give another name")
    place = Place(cfg.experiment, folder, cfg.overwrite)
    check_free(place)
    order = class_order(task, class_names(theirs.config), cfg.ptrain_ver)
    dropout = float(setting(theirs.config, "hidden_dropout_prob"))
    tokenizer = load_tokenizer(cfg.ptrain_ver)
    check_tokens(tokenizer, theirs.config)
    split = first_split(task)
    with what_cannot_run(cfg.ptrain_ver):
        ours = from_transformers(theirs, dropout, order).eval()
        check_tokenizer(ours, tokenizer, cfg.ptrain_ver)
        check_length(ours, cfg.max_seq_len)
        rows = load_split(task, split, tokenizer, cfg.max_seq_len)
        check_segments(ours, rows)
        gap = largest_difference(theirs, ours, order, tokenizer, rows)
    if not gap <= SAME:  # nor is it a number, if weights are none
        raise ValueError(
            f"--ptrain_ver {cfg.ptrain_ver!r}: its logits on rows of {task.name} {split} differ by {gap:g} from those "
            f"of what was made of it, by more than rounding ({SAME:g}): it is not the {kind} that is known here"
        )
    values = {
        "experiment": cfg.experiment, "model": kind, "task": task.name, "ptrain_ver": cfg.ptrain_ver,
        "num_class": task.num_class, "max_seq_len": cfg.max_seq_len, "dropout": dropout, "method": "import_teacher",
    }  # fmt: skip
    made_from = {"classes": class_names(theirs.config), "largest_difference": gap, **weights_digest(cfg.ptrain_ver)}
    devices = {"model": "cpu"}
    files = {"config.json": values} | ({TASK_JSON: to_json(task)} if task.files else {})
    open_folder(place, Contents(files, ours, tokenizer, devices, task.labels, command, made_from))
    save_checkpoint(folder, STEP, ours.saved())
    logger.info("%d rows of %s %s: logits differ by %g at the most", min(ROWS, len(rows)), task.name, split, gap)
    finish_run(folder)
    return folder


def read_classifier(cfg: ImportConfig, task: Task) -> PreTrainedModel:
    """Read the library's classifier, in eval mode.

    Raises:
        ValueError: It cannot be read, is none, or none of the task's kind.
    """

    def prepare(config: PreTrainedConfig) -> None:
        try:
            check_kind(config, cfg.model, task)
        except ValueError as error:
            raise UnsupportedError(str(error)) from None

    model, info = from_library(AutoModelForSequenceClassification, cfg.ptrain_ver, prepare)
    if absent := sorted(info["missing_keys"]):
        raise ValueError(
            f"--ptrain_ver {cfg.ptrain_ver!r}: {len(absent)} weights of a classifier are missing, {absent[0]} among "
            f"them; run_fine_tune.py --model {model.config.model_type} with the same --ptrain_ver makes one of it"
        )
    if unused := sorted(filter(BODY.search, info["unexpected_keys"])):
        logger.warning("%s: %d weights are not used, %s among them", cfg.ptrain_ver, len(unused), unused[0])
    return model.eval()


def check_kind(config: PreTrainedConfig, family: str | None, task: Task) -> None:
    """Refuse a model that is no classifier of a known family, or that answers another kind of question.

    Raises:
        ValueError: It is.
    """
    check_family(config)
    if family not in (None, config.model_type):
        raise ValueError(f"--model {family}: it is of the architecture {config.model_type}; leave the flag out")
    kinds = [str(name) for name in config.architectures or ()]
    if kinds and not any(name.endswith("ForSequenceClassification") for name in kinds):
        what = f"it is a {', '.join(kinds)}, no classifier of sentences"
        raise ValueError(f"{what}; run_fine_tune.py with the same --ptrain_ver fine-tunes its encoder")
    wanted = PROBLEM_TYPES[task.kind]
    if config.problem_type not in (None, wanted):
        raise ValueError(f"its problem_type is {config.problem_type}, that of {task.name} is {wanted}")


def class_names(config: PreTrainedConfig) -> list[str]:
    """Give the names of a classifier's classes in their order."""
    names = {int(number): str(name) for number, name in config.id2label.items()}
    return [names.get(number, f"LABEL_{number}") for number in range(config.num_labels)]


def class_order(task: Task, given: Sequence[str], name: str) -> list[int]:
    """Find for each class of a task the number that it has in a classifier, by the names of its classes.

    Case, blanks, hyphens and underscores do not count. Classes without names, `LABEL_0` and so on, are taken to be in
    the task's order, with a warning.

    Args:
        task: The task.
        given: The classifier's names.
        name: Of the classifier, for messages.

    Raises:
        ValueError: They are others.
    """
    wanted = [list(task.labels), list(task.label_names), [f"LABEL_{number}" for number in range(task.num_class)]]
    own, needed = ", ".join(given), ", ".join(task.label_names)
    what = f"--ptrain_ver {name!r}: its classes are {own}, those of {task.name} {needed}"
    if task.regression and len(given) == 1:
        return [0]
    if len(given) != task.num_class or task.regression:
        raise ValueError(f"{what}: {len(given)} outputs where {task.num_class} are needed")
    for spelled in (str, plain_name):
        there = [spelled(each) for each in given]
        for names in wanted:
            order = [there.index(each) for each in map(spelled, names) if each in there]
            if sorted(order) == list(range(len(given))):
                if names is wanted[-1]:
                    logger.warning("%s; taken in this order", what)
                return order
    raise ValueError(f"{what}; if they mean the same, give them the same names in id2label of its config.json")


def plain_name(name: str) -> str:
    """Spell the name of a class without what may differ: case, blanks, hyphens, underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def first_split(task: Task) -> str:
    """Name the split whose rows both are asked: a dev split if it is there, else the training rows.

    Raises:
        FileNotFoundError: There is none.
    """
    for split in (*task.dev, task.splits[0]):
        try:
            task.file(split)
        except FileNotFoundError as error:
            missing = error
        else:
            return split
    raise missing


@contextlib.contextmanager
def what_cannot_run(name: str) -> Iterator[None]:
    """Turn what the library raises inside, of settings of a stranger's that make no sense, into one line.

    Raises:
        ValueError: It does.
    """
    try:
        yield
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"--ptrain_ver {name!r}: cannot be run: {type(error).__name__}: {first_line(error)}") from None


@torch.no_grad()
def largest_difference(
    theirs: PreTrainedModel, ours: Classifier, order: Sequence[int], tokenizer: PreTrainedTokenizerFast, rows: Split
) -> float:
    """Compare logits on some rows: of the library's classifier as its users feed it, and of ours as we feed it."""
    asked = min(ROWS, len(rows))
    texts = (row.text for row in read_split(rows.task, rows.name)[:asked])
    columns = [list(column) for column in zip(*texts, strict=True)]
    given: Any = tokenizer(*columns, truncation=True, max_length=rows.max_seq_len, padding=True, return_tensors="pt")
    read = {name: tensor for name, tensor in given.items() if name in ours.takes}  # not the segments of a DistilBERT
    told = theirs(**read).logits[:, list(order)]
    return float((told - ours(**rows.inputs(np.arange(asked))).logits).abs().max())


def weights_digest(name: str) -> dict[str, str]:
    """Hash the weights of a local folder, or the list of their files; a hub name stands for itself."""
    there = [file for each in WEIGHTS if (file := expanded(name) / each).is_file()]
    return {"weights_sha256": digest(there[0])} if there else {}
