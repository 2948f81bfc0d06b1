"""What a network on word vectors starts from, as a student in a run of the project's own."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fine_tune.data.words import SPECIAL, split_words, word_tokenizer
from fine_tune.flags.shared import NetworkConfig, RunConfig, TeacherRef
from fine_tune.glove.config import NETWORKS as KINDS
from fine_tune.glove.config import read_config
from fine_tune.glove.material import word_classifier
from fine_tune.glove.vectors import matrix_for, read_vectors
from fine_tune.model.load import load_teacher
from fine_tune.path import NETWORKS, PROJECT
from fine_tune.run import preflight
from fine_tune.run.source import Settings, Source, expect_kind
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import Task


def read_words(settings: Settings) -> Source:
    """Read what a network on word vectors is made of: its configuration, the vectors of the task's words; its teacher.

    The words are those of all splits that are there, so that none which is scored is unknown for want of a vector.

    Raises:
        ValueError: Files that do not fit together, or a task of pairs of texts.
        FileNotFoundError: Files that are not there.
    """
    flags, task, devices = settings
    cfg, network, ref = flags[RunConfig], flags[NetworkConfig], flags[TeacherRef]
    expect_kind(cfg.model, NETWORKS)
    if len(task.text) > 1:
        raise ValueError(f"--task {task.name}: pairs of texts; networks on word vectors read single ones")
    file = Path(network.config or PROJECT / f"glove_student/configs/config-{cfg.model}.json")
    values = read_config(file)
    if KINDS.get(values["enc_class"]) != cfg.model:
        raise ValueError(f"--config {file}: is of {values['enc_class']}, but --model is {cfg.model}")
    teacher = load_teacher(ref, task, None)
    words = {word for text in texts_of(task, cfg.dataset) for word in split_words(text, values["lowercase"])}
    vectors = read_vectors(Path(network.embedding_path), words - set(SPECIAL))
    tokenizer = word_tokenizer(vectors.words, values["lowercase"], values["n_ctx"])
    matrix = matrix_for(vectors.words, vectors, cfg.seed)
    model = word_classifier(values, matrix, task.num_class, network.embedding_trainable)
    made_from = {"teacher_sha256": teacher.checkpoint, "vectors_sha256": Path(network.embedding_path)}
    return Source(
        tokenizer, values["n_ctx"], model, teacher, (dataclasses.replace(ref, tckpt=teacher.step),),
        check=partial(preflight.check_teacher, teacher, device=devices.teacher), made_from=made_from,
        origin={"word vectors": f"{len(vectors.words)} words of {network.embedding_path}", "network": "random"},
    )  # fmt: skip


def texts_of(task: Task, dataset: str) -> Iterator[str]:
    """Give the texts of the split to train on, and of the task's own splits that are there."""
    for split in dict.fromkeys((dataset, *task.splits)):
        try:
            task.file(split)
        except FileNotFoundError:
            if split == dataset:
                raise
            continue
        for row in read_split(task, split):
            yield from row.text
