"""Tests of the two slices of the training rows, one to train on, one held out to choose by."""

import numpy as np
import pytest

from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import SLICES, TASKS


def grow(data, times=10):
    """SST-2 with the training rows of the fixture ten times over: 240."""
    file = data.file("SST-2/train.tsv")
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([header, *rows * times]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", list(TASKS))
def test_slices_are_disjoint_complete_and_in_order(name, data):
    if name != "sst2":
        data.write(name, train=40)
    whole, fit, held = (read_split(TASKS[name], split) for split in ("train", *SLICES))
    assert len(held) == round(0.05 * len(whole)) and len(fit) == len(whole) - len(held)
    ids = {split: [int(row.id) for row in rows] for split, rows in (("fit", fit), ("held", held))}
    assert sorted(ids["fit"] + ids["held"]) == list(range(len(whole)))
    assert all(numbers == sorted(numbers) for numbers in ids.values())
    assert [whole[number] for number in ids["fit"]] == fit and [whole[number] for number in ids["held"]] == held


def test_the_held_out_rows_are_always_these(data):
    """Another choice would let a comparison be selected on rows that an earlier one trained on."""
    grow(data)
    held = [int(row.id) for row in read_split(TASKS["sst2"], "train_select")]
    assert held == [0, 41, 72, 100, 117, 153, 164, 199, 200, 201, 226, 237]


def test_a_slice_has_its_own_place_in_the_cache(data, encoder):
    grow(data)
    tokenizer = load_tokenizer(encoder)
    whole, fit, held = (load_split(TASKS["sst2"], split, tokenizer, 24) for split in ("train", *SLICES))
    assert len({whole.key, fit.key, held.key}) == 3 and (len(fit), len(held)) == (228, 12)
    for part in (fit, held):
        for row in (0, len(part) - 1):
            same = int(part.row_id[row])
            want, got = whole.inputs(np.array([same])), part.inputs(np.array([row]))
            assert got["input_ids"].tolist() == want["input_ids"].tolist() and part.label[row] == whole.label[same]


@pytest.mark.slow
def test_a_run_is_trained_on_a_slice_and_scored_on_the_other(data, run, teacher):
    grow(data)
    base = ("--experiment", "s", "--task", "sst2", "--device_id", -1)
    run("run_student_fine_tune", *base, "--teacher_exp", "teacher", "--dataset", "train_fit", "--batch_size", 228,
        "--epoch", 2, "--no_preflight")  # fmt: skip
    assert (data.config("s")["dataset"], data.config("s")["total_step"]) == ("train_fit", 2)
    run("run_fine_tune_eval", *base, "--dataset", "train_select")
    assert data.config("s", name="eval_train_select.json")["rows"] == 12
    lines = (data.run("s") / "prediction_train_select-2.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == [row.id for row in read_split(TASKS["sst2"], "train_select")]


def test_slices_stand_in_the_list_of_splits(teacher, refused):
    message = refused("run_fine_tune_eval", "--experiment", "teacher", "--task", "sst2", "--dataset", "train_other")
    assert message.endswith("sst2 has the splits train, dev, test, train_fit, train_select, augmented")


def test_a_slice_of_missing_data_is_answered_with_the_command_that_gets_it(data):
    data.file("SST-2/train.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"train.tsv is not there; get it with: bash scripts/prepare_sst2.sh"):
        read_split(TASKS["sst2"], "train_select")
