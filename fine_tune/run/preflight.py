"""The checks before a run starts (`--no_preflight` skips them): schedule, disk, sizes, tokens, rows, teacher.

They write nothing but the cache of tokenised rows. Every finding is a `ValueError` of one line: cause, values, cure.
Whether the teacher knows its task is decided in `teacher_check`.
"""

import contextlib
import itertools
import logging
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from fine_tune.data.tokens import (
    Split,
    capital_share,
    load_split,
    load_tokenizer,
    lowers,
    same_tokens,
    unknown_share,
    why_unknown,
)
from fine_tune.files import existing
from fine_tune.flags.shared import Pace, RunConfig, StepConfig
from fine_tune.hardware import distributed
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import Loaded, has_own_tokenizer
from fine_tune.path import run_dir
from fine_tune.run import memory
from fine_tune.run.teacher_check import judge
from fine_tune.tasks import own
from fine_tune.tasks.table import SLICES, TASKS, Task

logger = logging.getLogger(__name__)

UNKNOWN = 0.2
"""Refuse rows with this share of unknown tokens."""
CASED = 0.05
"""A vocabulary is cased if this share of it has capitals: a quarter and more in BERT's, none in an uncased one."""
LEAK, USUAL_LEAK = 0.1, 0.02
"""Refuse, or mention, this share of dev rows among the training rows; benchmarks have a few in common."""
FEW = 5
"""Mention classes of a user's own task that have fewer rows."""
UNSURE = 0.25
"""How far estimates of memory may be from the truth."""
STATE_FLOATS = 3
"""A state holds every weight and its two moments."""


@contextlib.contextmanager
def way_out() -> Iterator[None]:
    """Add the flag that skips the checks to the message of one that fails inside.

    Raises:
        ValueError: As the check, with the flag that skips it.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} (--no_preflight starts without this check)") from None


def check_schedule(steps: StepConfig, prefix: str = "") -> None:
    """Refuse a warm-up that is as long as the run.

    Raises:
        ValueError: It is.
    """
    assert steps.total_step is not None and steps.warmup_step is not None
    if steps.warmup_step >= max(2, steps.total_step):  # one update is all warm-up
        raise ValueError(
            f"--{prefix}warmup_step {steps.warmup_step} is not over by the last update ({steps.total_step}): the "
            "learning rate never gets to its peak; give fewer"
        )


def disk_use(pace: Pace, total_step: int, trained: Collection[nn.Module]) -> int:
    """Give the largest size of a run's folder in bytes: its checkpoints, and two states while a new one is written."""
    count = -(-total_step // pace.ckpt_step)
    count = min(count, (pace.keep_last or count) + 1)
    numbers = sum(weights.numel() for model in trained for weights in model.parameters())
    return 4 * numbers * (count + 2 * STATE_FLOATS)


def check_disk(cfg: RunConfig, pace: Pace, total_step: int, trained: Collection[nn.Module]) -> None:
    """Refuse a run that does not fit on the disk.

    Raises:
        ValueError: With what is needed and what is free.
    """
    folder = run_dir(cfg.experiment, cfg.model, cfg.task)
    need, free = disk_use(pace, total_step, trained), shutil.disk_usage(existing(folder)).free
    free += sum(file.stat().st_size for file in (*folder.glob("*.pt"), *folder.glob(".*.part")))  # reused, or removed
    if need > free:
        raise ValueError(
            f"checkpoints and states may take {need / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB left; raise "
            "--ckpt_step, or give --keep_last"
        )


def check_memory(need: int, device: torch.device) -> None:
    """Refuse a run that will not find its memory; warn of one that may not. The estimate is right within a quarter.

    Raises:
        ValueError: With what is needed and what is free.
    """
    if (free := memory.free(device)) is None or need < free:
        return
    what = f"the run may take {need / 1e9:.1f} GB more memory on {device}, where {free / 1e9:.1f} GB are free"
    if need < (1 + UNSURE) * free:
        logger.warning("%s", what)
    else:
        raise ValueError(f"{what}; {memory.LESS}")


def check_size(teacher: Classifier, student: Classifier) -> None:
    """Refuse a student whose layers compute more than its teacher's; ALBERT's share weights, so these do not count.

    Raises:
        ValueError: With both sizes.
    """
    size, shape = [], []
    for model in (teacher, student):
        layers, width, inner = model.num_layers, model.width, model.inner
        size.append(layers * (4 * width * width + 2 * width * inner))
        shape.append(f"{layers} layers of width {width} and {inner}")
    if size[1] > size[0]:
        raise ValueError(
            f"the student is larger than its teacher: {shape[1]}, the teacher {shape[0]}; are --num_hidden_layers, "
            "--d_model, --d_ff right?"
        )


def check_tokens(tokenizer: PreTrainedTokenizerFast, config: PreTrainedConfig) -> None:
    """Refuse a tokenizer without the special tokens of the architecture; warn of one that suits its vocabulary badly.

    Another number for padding is harmless, as padding is masked; it may mean that the tokenizer is another model's.

    Raises:
        ValueError: Naming the token.
    """
    for name in getattr(config, "special", ("pad", "unk", "cls", "sep")):
        if getattr(tokenizer, f"{name}_token_id") is None:
            raise ValueError(
                f"the tokenizer {tokenizer.name_or_path} has no token for [{name.upper()}]: is it the model's?"
            )
    if config.pad_token_id not in (None, tokenizer.pad_token_id):
        logger.warning(
            "padding is token %d of the tokenizer %s, but token %d of the model: is it the model's?",
            tokenizer.pad_token_id, tokenizer.name_or_path, config.pad_token_id,
        )  # fmt: skip
    if lowers(tokenizer) and (share := capital_share(tokenizer)) > CASED:
        logger.warning(
            "the tokenizer %s lower-cases, but %.0f %% of its vocabulary has capitals, which it never finds; should "
            "do_lower_case be false?", tokenizer.name_or_path, 100 * share,
        )  # fmt: skip


def check_rows(rows: Split, tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse rows of which the tokenizer knows few words, or that contain the rows that results are measured on.

    Raises:
        ValueError: A fifth of the tokens is unknown, or more than `LEAK` of the dev rows are there.
    """
    task, unknown = rows.task, unknown_share(rows, tokenizer)
    if unknown > UNKNOWN:
        what = f"{unknown:.0%} of the tokens of {task.name} {rows.name}"
        raise ValueError(f"{what} are unknown to the tokenizer: {why_unknown(tokenizer)}")
    known = {rows.input_ids[start:end].tobytes() for start, end in itertools.pairwise(rows.offsets)}
    for dev in dev_splits(rows, tokenizer):
        share = np.mean([dev.input_ids[start:end].tobytes() in known for start, end in itertools.pairwise(dev.offsets)])
        what = f"{share:.0%} of the rows of {task.name} {dev.name} are among those of {rows.name}, which are trained on"
        if share > LEAK:
            raise ValueError(f"{what}: a score on them would mean nothing; is the data right?")
        if share > (0 if task.files else USUAL_LEAK):
            logger.warning("%s", what)
    if task.files and rows.label is not None:
        tell_own(rows)


def tell_own(rows: Split) -> None:
    """Say what looks wrong with the labels of a user's own rows; each finding is a line."""
    task, names = rows.task, rows.task.labels
    assert rows.label is not None
    logger.info("%s: %s", task.name, own.said(task))
    for alike in own.different_names(names):
        logger.warning("%s: the classes %s differ in case and blanks alone: are they one?", task.name, alike)
    if task.regression:
        if np.ptp(rows.label) == 0:
            raise ValueError(f"all scores of {task.name} {rows.name} are {rows.label[0]:g}: there is nothing to learn")
        return
    counts = rows.label.sum(0) if task.multi else np.bincount(rows.label, minlength=len(names))
    if np.count_nonzero(counts) < (1 if task.multi else 2):
        raise ValueError(f"all rows of {task.name} {rows.name} have the same label: there is nothing to learn")
    if few := [f"{name} ({int(count)})" for name, count in zip(names, counts, strict=True) if count < FEW]:
        logger.warning("%s %s: classes with fewer than %d rows: %s", task.name, rows.name, FEW, own.some(few))


def dev_splits(rows: Split, tokenizer: PreTrainedTokenizerFast) -> Iterator[Split]:
    """Read the dev splits that are there; none if the run trains on a slice of train and so keeps them for the end."""
    for name in rows.task.dev if rows.name not in SLICES else ():
        with contextlib.suppress(FileNotFoundError):
            yield load_split(rows.task, name, tokenizer, rows.max_seq_len)


def check_teacher(teacher: Loaded, rows: Split, device: torch.device) -> None:
    """Refuse a teacher with other classes, or one that does not know the task, judged on dev rows or else on `rows`.

    Raises:
        ValueError: With what was seen.
    """
    check_run(teacher, rows.task)
    check_held_out(teacher.folder, rows.task)
    split = next(dev_splits(rows, teacher.tokenizer), rows)  # every process takes part
    distributed.on_main(lambda: judge(teacher, split, device))


def check_held_out(folder: Path, task: Task) -> None:
    """Refuse a teacher that was trained on rows which are held out now.

    Raises:
        ValueError: With both draws.
    """
    taught = own.task_of(folder)
    if taught and task.held_out and task.held_out != taught.held_out:
        share, seed = task.held_out
        before = "none" if taught.held_out is None else "--split {} --split_seed {}".format(*taught.held_out)
        raise ValueError(
            f"--split {share} --split_seed {seed}: the teacher {folder.name} held out other rows ({before}), so it has "
            "learned some of these; hold out the same, or fine-tune it again"
        )


def check_run(loaded: Loaded, task: Task) -> None:
    """Refuse a model whose tokenizer is another's, or whose classes are not those of the data.

    Raises:
        ValueError: Naming what differs.
    """
    check_tokens(loaded.tokenizer, loaded.model.encoder.config)
    check_labels(task, loaded.model.encoder.config.id2label)
    own = str(loaded.folder / "tokenizer")
    if has_own_tokenizer(loaded.folder) and loaded.tokenizer.name_or_path != own:
        if not same_tokens(load_tokenizer(own), loaded.tokenizer):
            raise ValueError(
                f"--ptrain_ver {loaded.tokenizer.name_or_path}: its tokenizer is not the one in {loaded.folder}, which "
                "the model was trained with; leave the flag out"
            )


def check_labels(task: Task, names: dict[int, str]) -> None:
    """Refuse a model whose classes are another task's, or in another order; warn if their names say neither.

    Raises:
        ValueError: With both.
    """
    given = [str(names[key]) for key in sorted(names)]
    if task.regression or given == list(task.labels) or any(name.startswith("LABEL_") for name in given):
        return  # the last is transformers' way of saying that they have no names
    what = f"the model's classes are {', '.join(given)}, those of {task.name} {', '.join(task.labels)}"
    if any({name.lower() for name in given} == set(other.labels) for other in TASKS.values()) or (
        task.files and sorted(given) == sorted(task.labels)
    ):
        raise ValueError(what)
    logger.warning("%s", what)
