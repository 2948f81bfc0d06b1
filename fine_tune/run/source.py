"""What a run starts from: a teacher, another run, or a pre-trained encoder; its tokens and sizes come from there."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from fine_tune.data.tokens import Split, load_tokenizer
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import (
    InitConfig,
    RunConfig,
    SizesConfig,
    SourceConfig,
    StudentConfig,
    TeacherConfig,
    TeacherRef,
)
from fine_tune.hardware.device import Devices
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import Loaded, check_length, fresh_teacher, has_own_tokenizer, load_run, load_teacher
from fine_tune.model.student import class_count, settled_sizes, sized_student, with_new_dropout
from fine_tune.path import STUDENTS, TRANSFORMERS
from fine_tune.run import preflight
from fine_tune.tasks.table import Task


class Settings(NamedTuple):
    """A command, resolved: what its flags and this machine decide."""

    flags: Flags
    task: Task
    devices: Devices


class Source(NamedTuple):
    """What a run starts from: its tokens and sizes come from there.

    Attributes:
        tokenizer: Cuts the run's rows, for what is trained.
        max_seq_len: Tokens of a row at most.
        model: A model of those tokens: a student's, a fresh one; None where it is built of the teacher's sizes.
        teacher: The teacher, with its own tokens, if there is one.
        settled: Groups of flags with what it decides in place of what the user left open.
        check: Looks at it together with the rows, as the teacher reads them if there is one, before anything is built.
        made_from: Files that the result depends on, by the name under which `run.json` keeps their digest.
        origin: Where the weights of `model` come from, for the user.
    """

    tokenizer: PreTrainedTokenizerFast
    max_seq_len: int
    model: Classifier | None = None
    teacher: Loaded | None = None
    settled: tuple[Any, ...] = ()
    check: Callable[[Split], None] = lambda rows: None
    made_from: Mapping[str, Path] = MappingProxyType({})
    origin: Mapping[str, str] = MappingProxyType({})


def read_teacher(settings: Settings) -> Source:
    """Read the teacher that `--teacher_exp` names; sizes that the user left open are its, with half the layers."""
    flags, task, devices = settings
    ref, sizes = flags[TeacherRef], flags[StudentConfig]
    expect_kind(flags[RunConfig].model, TRANSFORMERS)
    teacher = load_teacher(ref, task, sizes.ptrain_ver)
    tokenizer = load_tokenizer(sizes.tokenizer, "--tokenizer") if sizes.tokenizer else teacher.tokenizer
    settled = (
        dataclasses.replace(ref, tckpt=teacher.step, tmodel=teacher.config["model"]),
        settled_sizes(sizes, flags[RunConfig].model, teacher),
    )
    return Source(
        tokenizer, teacher.max_seq_len, None, teacher, settled,
        check=partial(preflight.check_teacher, teacher, device=devices.teacher),
        made_from={"teacher_sha256": teacher.checkpoint},
    )  # fmt: skip


def expect_kind(model: str, kinds: Sequence[str]) -> None:
    """Refuse an architecture that a script does not train.

    Raises:
        ValueError: Naming those that it does.
    """
    if model not in kinds:
        raise ValueError(f"--model {model}: this script trains {', '.join(kinds)}")


def read_student(settings: Settings) -> Source:
    """Read the student that `--src_experiment` names, to be trained further; and the teacher, if the run has one.

    Raises:
        FileNotFoundError: No such run or checkpoint.
        ValueError: It is of another task, or the new run would be its own source.
    """
    flags, task, devices = settings
    cfg, source, ref = flags[RunConfig], flags[SourceConfig], flags.get(TeacherRef)
    if source.src_experiment == cfg.experiment:
        raise ValueError(f"--experiment {cfg.experiment}: is the source, which is left as it is; give another name")
    loaded = load_run(source.src_experiment, cfg.model, task, source.src_ckpt, source.ptrain_ver, "--src_ckpt")
    dropout = float(loaded.config["dropout"]) if source.dropout is None else source.dropout
    loaded = loaded._replace(model=with_new_dropout(loaded.model, dropout))
    settled: tuple[Any, ...] = (dataclasses.replace(source, src_ckpt=loaded.step, dropout=dropout),)
    made_from = {"source_sha256": loaded.checkpoint}
    teacher = None
    if ref:
        teacher = load_teacher(ref, task, source.ptrain_ver)
        settled += (dataclasses.replace(ref, tckpt=teacher.step, tmodel=teacher.config["model"]),)
        made_from["teacher_sha256"] = teacher.checkpoint

    def check(rows: Split) -> None:
        preflight.check_run(loaded, task)
        if teacher:
            preflight.check_teacher(teacher, rows, devices.teacher)

    origin = {"everything": f"{loaded.folder.name}, checkpoint {loaded.step}"}
    return Source(
        loaded.tokenizer, loaded.max_seq_len, loaded.model, teacher, settled,
        check=check, made_from=made_from, origin=origin,
    )  # fmt: skip


def read_pretrained(settings: Settings) -> Source:
    """Read the encoder that `--ptrain_ver` names, and put a fresh classifier on it: a teacher to fine-tune."""
    flags, task, _ = settings
    cfg = flags[TeacherConfig]
    expect_kind(flags[RunConfig].model, TRANSFORMERS)
    settled = dataclasses.replace(cfg, num_class=class_count(task, cfg.num_class))
    model, tokenizer = fresh_teacher(flags[RunConfig].model, cfg.ptrain_ver, task, cfg.dropout)
    check_length(model, cfg.max_seq_len)
    check = partial(preflight.check_tokens, tokenizer, model.encoder.config)
    return Source(tokenizer, cfg.max_seq_len, model, settled=(settled,), check=lambda rows: check())


def read_sizes(settings: Settings) -> Source:
    """Read what a student is made of whose teacher is a file of logits: sizes from flags, a tokenizer.

    Raises:
        ValueError: The split has no logits, or there is no such tokenizer.
        FileNotFoundError: They are not there.
    """
    flags, task, _ = settings
    cfg, sizes = flags[RunConfig], flags[SizesConfig]
    expect_kind(cfg.model, STUDENTS)
    file = task.file(cfg.dataset)
    if task.is_official(cfg.dataset):
        raise ValueError(
            f"--dataset {cfg.dataset}: has no logits to learn; name a run with logits, <experiment>_<model>_<task>, "
            "which run_fine_tune_gen_logits.py writes"
        )
    name = sizes.ptrain_ver or tokenizer_of(file.parent, cfg.model, task)
    settled = dataclasses.replace(sizes, num_class=class_count(task, sizes.num_class))
    tokenizer = load_tokenizer(name)
    student, origin = sized_student(cfg.model, settled, flags[InitConfig], task, tokenizer)
    check = partial(preflight.check_tokens, tokenizer, student.encoder.config)
    return Source(
        tokenizer, sizes.max_seq_len, student, settled=(settled,), check=lambda rows: check(), origin=origin,
        made_from={"logits_sha256": file},
    )  # fmt: skip


def tokenizer_of(folder: Path, kind: str, task: Task) -> str:
    """Name the tokenizer of the run whose logits are learned, if it is of the student's architecture, else a usual one.

    The released code takes the usual one of the architecture, whatever the teacher's.
    """
    same = folder.name.endswith(f"_{kind}_{task.name}")
    if same and has_own_tokenizer(folder):
        return str(folder / "tokenizer")
    return {"bert": "bert-base-uncased", "albert": "albert-base-v2"}[kind]
