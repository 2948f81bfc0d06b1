"""Tests of the picture of [CLS], and of what TensorBoard's projector gets."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from sklearn.metrics import silhouette_score

from fine_tune.model.load import load_run
from fine_tune.plot.embedding import Cloud, draw_clouds, projections, separation
from fine_tune.tasks.table import TASKS

OF = ("--experiment", "teacher", "--task", "sst2", "--device_id", -1)


def cloud(gap, count=60):
    """Two classes in 20 dimensions, so far apart along one of them."""
    draw, label = np.random.default_rng(0), np.arange(count) % 2
    vectors = draw.normal(size=(count, 20)).astype(np.float32)
    vectors[:, 0] += gap * (2 * label - 1)
    return Cloud(vectors, label)


@pytest.mark.slow
def test_two_checkpoints_side_by_side(data, run, teacher):
    run("plot_CLS_embedding", *OF, "--dataset", "train", "--ckpt", "2,4")
    image, table = imread(teacher / "cls_train.png"), pd.read_csv(teacher / "cls_train.csv")
    assert image.shape[0] > 800 and image.shape[1] > 800 and image.std() > 0.05
    assert list(table["checkpoint"].unique()) == ["teacher, update 2", "teacher, update 4"]
    assert len(table) == 2 * 2 * 24 and set(table["projection"]) == {"pca", "t-sne"}


@pytest.mark.slow
def test_the_projector_has_every_rows_vector_and_the_name_of_its_label(data, run, teacher):
    """That of the last block's [CLS], without dropout; drawn again, it is there once."""
    for _ in range(2):
        run("plot_CLS_embedding", *OF, "--dataset", "dev", "--sample", 5)
    log = data.root / "fine_tune_experiment" / "log" / teacher.name
    vectors = np.loadtxt(log / "00004" / "dev" / "tensors.tsv", delimiter="\t")
    names = (log / "00004" / "dev" / "metadata.tsv").read_text(encoding="utf-8").split()
    lines = data.file("SST-2/dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    texts, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    loaded = load_run("teacher", "bert", TASKS["sst2"], 4, None, "--ckpt")
    with torch.no_grad():
        out = loaded.model(**loaded.tokenizer([text.strip() for text in texts], padding=True, return_tensors="pt"))
    assert vectors == pytest.approx(out.hidden_states[-1][:, 0].numpy(), abs=1e-5) and names == list(labels)
    assert (log / "projector_config.pbtxt").read_text(encoding="utf-8").count("tensor_path") == 1
    run("plot_CLS_embedding", *OF, "--dataset", "dev", "--pooled", "--ckpt", 2)
    pooled = np.loadtxt(log / "00002" / "dev-pooled" / "tensors.tsv", delimiter="\t")
    assert np.abs(pooled).max() <= 1 and pooled.shape == (8, 16) and (teacher / "cls_dev-pooled.png").is_file()
    assert (log / "projector_config.pbtxt").read_text(encoding="utf-8").count("tensor_path") == 2


@pytest.mark.slow
def test_another_run_stands_before_the_runs_own(data, run, teacher):
    quick = ("--device_id", -1, "--batch_size", 8, "--total_step", 1, "--warmup_step", 1)
    run("run_kd_distil", "--experiment", "KD", "--teacher_exp", "teacher", "--task", "sst2", *quick)
    own = ("--experiment", "KD", *OF[2:], "--beside", "teacher:2", "--beside", "teacher")
    run("plot_CLS_embedding", *own, "--sample", 6)
    table = pd.read_csv(data.run("KD") / "cls_dev.csv")
    assert list(table["checkpoint"].unique()) == ["teacher, update 2", "teacher, update 4", "KD, update 1"]
    assert len(table) == 3 * 2 * 6


def test_classes_that_part_have_a_larger_silhouette_and_part_in_the_plane():
    near, far = cloud(0), cloud(8)
    assert separation(near) < 0.1 < separation(far)
    assert separation(far) == pytest.approx(silhouette_score(far.vectors, far.label, metric="cosine"))
    for points in projections(far, 0).values():
        assert silhouette_score(points, far.label) > 0.5
    assert separation(Cloud(near.vectors, np.zeros(60, int))) == 0


@pytest.mark.slow
def test_the_picture_of_the_same_vectors_is_the_same():
    one, other, third = (draw_clouds({"a": cloud(gap)}, ("0", "1"), 3)[1] for gap in (2, 2, 3))
    assert one == other != third


@pytest.mark.parametrize(("flags", "told"), [
    (("--ckpt", "2,x"), "--ckpt, --beside: a checkpoint is a number, got 'x'"),
    (("--ckpt", "3"), "--ckpt 3"),
    (("--beside", "nobody"), "no run at "),
    (("--sample", "2"), "--sample must be >= 3, got 2"),
    (("--dataset", "test"), "has no classes to colour the rows by"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused(flags, told, data, teacher, refused):
    assert told in refused("plot_CLS_embedding", *OF, *flags)
    assert not list(teacher.glob("cls_*"))
