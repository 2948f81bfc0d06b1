"""Tests of a model's outputs on a split in the documents' files: data sets of offline distillation, banks."""

import json

import numpy as np
import pytest
import torch
from conftest import Data

from fine_tune.data.tokens import load_split
from fine_tune.flags.shared import TeacherRef
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import load_teacher
from fine_tune.path import cache_dir
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import TASKS
from fine_tune.teacher import bank, store

ASKED = ("--experiment", "teacher", "--device_id", -1)
QUICK = ("--device_id", -1, "--batch_size", 8, "--total_step", 2, "--warmup_step", 1, "--no_preflight")
BUILDERS = ["run_fine_tune_gen_logits", "build_logitsbank", "build_membank"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Rows do not fit into one block."""
    monkeypatch.setattr(bank, "BLOCK", 7)


@torch.no_grad()
def said(task: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the teacher says of every row, one at a time: logits, [CLS] of every layer, pooled output."""
    loaded = load_teacher(TeacherRef(teacher_exp="teacher"), TASKS[task], None)
    rows = load_split(TASKS[task], "train", loaded.tokenizer, loaded.max_seq_len)
    logits, states, pooled = [], [], []
    for row in range(len(rows)):
        out = loaded.model(**rows.inputs(np.array([row])))
        logits.append(out.logits[0])
        states.append(torch.stack([layer[0, 0] for layer in out.hidden_states]))
        pooled.append(loaded.model.encoder.pooler(out.hidden_states[-1])[0])
    return torch.stack(logits), torch.stack(states), torch.stack(pooled)


def held(data: Data, name: str, task: str = "sst2"):
    return torch.load(data.run("teacher", task) / name, weights_only=True)


@pytest.fixture
def pairs(data, encoder, run):
    """A teacher of MNLI, whose third row has no gold label."""
    data.write("mnli", train=12)
    file = data.file("MNLI/train.tsv")
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].rpartition("\t")[0] + "\t-"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run(
        "run_fine_tune",
        "--experiment",
        "teacher",
        "--task",
        "mnli",
        "--ptrain_ver",
        encoder,
        *QUICK,
        "--max_seq_len",
        24,
    )
    return data


def test_the_data_set_of_offline_distillation(pairs, run):
    run("run_fine_tune_gen_logits", *ASKED, "--task", "mnli")
    folder = pairs.run("teacher", "mnli")
    lines = [json.loads(line) for line in (folder / "mnli-distill.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = read_split(TASKS["mnli"], "train")
    assert [(line["text"], line["text_pair"]) for line in lines] == [row.text for row in rows] and len(lines) == 11
    assert [line["label"] for line in lines] == [int(row.label) for row in rows]
    torch.testing.assert_close(torch.tensor([line["logits"] for line in lines]), said("mnli")[0])
    about = json.loads((folder / "mnli-distill.json").read_text(encoding="utf-8"))
    assert (about["checkpoint"], about["split"], about["rows"]) == (2, "train", 11)


@pytest.mark.slow
def test_a_single_sentence_has_no_second_text(data, run, teacher):
    run("run_fine_tune_gen_logits", *ASKED, "--task", "sst2", "--dataset", "dev", "--ckpt", 2)
    lines = (teacher / "sst2-distill.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 8 and {json.loads(line)["text_pair"] for line in lines} == {None}
    assert json.loads((teacher / "sst2-distill.json").read_text(encoding="utf-8"))["checkpoint"] == 2


def test_banks_hold_a_row_per_row(pairs, run, small_blocks):
    run("build_logitsbank", *ASKED, "--task", "mnli", "--batch_size", 2)
    run("build_membank", *ASKED, "--task", "mnli")
    run("build_membank", *ASKED, "--task", "mnli", "--layer_wise")
    logits, states, pooled = said("mnli")
    torch.testing.assert_close(held(pairs, "logitsbank-2.pt", "mnli")["logitsbank"], logits)
    normal = torch.nn.functional.normalize
    torch.testing.assert_close(held(pairs, "membank.pt", "mnli")["membank"], normal(pooled, dim=-1))
    for layer in range(4):
        found = held(pairs, f"membank{layer}.pt", "mnli")
        torch.testing.assert_close(found["membank"], normal(states[:, layer], dim=-1))
        assert found["about"]["width"] == 16 and found["about"]["split"] == "train"
    assert not list(pairs.run("teacher", "mnli").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("script", [BUILDERS[0], *(pytest.param(s, marks=pytest.mark.slow) for s in BUILDERS[1:])])
def test_a_file_of_something_else_is_not_replaced_unless_asked(
    script, data, run, refused, teacher, monkeypatch, capsys
):
    asked = (script, *ASKED, "--task", "sst2")
    run(*asked)
    before = {file: file.read_bytes() for file in teacher.iterdir() if file.is_file()}
    states = Classifier.states
    monkeypatch.setattr(Classifier, "states", lambda *_, **__: pytest.fail("the model is asked again"))
    capsys.readouterr()
    run(*asked)
    assert "already there: " in capsys.readouterr().out
    told = refused(*asked, "--dataset", "dev")
    assert "was made from split train, rows 24" in told and "now it would be split dev, rows 8" in told
    assert told.endswith("replace it with --overwrite")
    assert {file: file.read_bytes() for file in teacher.iterdir() if file.is_file()} == before
    monkeypatch.setattr(Classifier, "states", states)
    run(*asked, "--dataset", "dev", "--overwrite")
    assert {file: file.read_bytes() for file in before} != before


@pytest.mark.parametrize(
    "script", [*BUILDERS[:1], *(pytest.param(script, marks=pytest.mark.slow) for script in BUILDERS[1:])]
)
def test_bad_input_is_refused_before_anything_is_written(script, data, refused, teacher):
    before = set(teacher.iterdir())
    for more, told in (
        (("--ckpt", 0), "--ckpt 0: "),
        (("--dataset", "dev_mismatched"), "sst2 has the splits train, dev, test"),
        (("--dataset", "test"), "this split of sst2 has no labels to train on"),
        (("--experiment", "nobody"), "nobody_bert_sst2"),
    ):
        assert told in refused(script, *ASKED, "--task", "sst2", *more), more
    assert set(teacher.iterdir()) == before and not list(cache_dir().glob("*teacher-*"))


def test_banks_that_the_disk_cannot_hold_are_refused(data, refused, teacher, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1000}))
    told = refused("build_membank", *ASKED, "--task", "sst2", "--layer_wise")
    assert told.startswith("4 banks of 24 x 16 would take 0.00 GB; the disk has 0.00 GB left")


@pytest.mark.slow
def test_the_builders_and_the_cache_of_training_are_one_store(data, run, teacher, monkeypatch):
    run("build_logitsbank", *ASKED, "--task", "sst2")
    (folder,) = cache_dir().glob("teacher-*")
    monkeypatch.setattr(store, "fill_arrays", lambda *_: pytest.fail("filled again"))
    run("run_fine_tune_gen_logits", *ASKED, "--task", "sst2")
    taught = ("--teacher_exp", "teacher", "--task", "sst2")
    run("run_kd_distil", "--experiment", "kd", *taught, *QUICK, "--teacher_cache", "logits")
    assert list(cache_dir().glob("teacher-*")) == [folder]


@pytest.mark.slow
def test_what_a_kill_left_undone_is_made(data, run, teacher, monkeypatch):
    """Killed between two banks; the first is kept as it is."""
    plain, made = bank.write_whole, []

    def killed(file, write):
        if made:
            raise KeyboardInterrupt
        made.append(file)
        plain(file, write)

    monkeypatch.setattr(bank, "write_whole", killed)
    with pytest.raises(SystemExit, match="130"):
        run("build_membank", *ASKED, "--task", "sst2", "--layer_wise")
    assert [file.name for file in teacher.glob("membank*")] == ["membank0.pt"]
    first = (teacher / "membank0.pt").stat().st_mtime_ns
    monkeypatch.setattr(bank, "write_whole", plain)
    run("build_membank", *ASKED, "--task", "sst2", "--layer_wise")
    assert len(list(teacher.glob("membank*"))) == 4 and (teacher / "membank0.pt").stat().st_mtime_ns == first


@pytest.mark.slow
def test_a_student_is_read_as_well_and_an_albert(data, run, albert):
    named = ("--experiment", "teacher", "--model", "albert", "--task", "sst2")
    run("run_fine_tune", *named, "--ptrain_ver", albert, *QUICK, "--max_seq_len", 24)
    run("build_membank", *ASKED, "--model", "albert", "--task", "sst2")
    folder = data.run("teacher", model="albert")
    found = torch.load(folder / "membank.pt", weights_only=True)["membank"]
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(24))
