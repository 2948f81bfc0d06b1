"""Tests of exports: equal logits in every form, names of classes, cards; what is refused, which leaves nothing."""

import csv
import importlib.util
import json
import math
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import Data, call, write_task

from fine_tune import files
from fine_tune.export import check, folder, lean, onnx
from fine_tune.export.card import card
from fine_tune.export.huggingface import read_model
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import Loaded, load_run
from fine_tune.model.words import WordConfig, WordEncoder
from fine_tune.path import PROJECT
from fine_tune.tasks.table import TASKS

EXPORT = ("export_model", "--experiment", "teacher", "--task")
MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
NEEDS_ONNX = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
HUGGINGFACE = {
    "README.md",
    "config.json",
    "export.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def loaded_teacher(task: str = "sst2", model: str = "bert") -> Loaded:
    return load_run("teacher", model, TASKS[task], None, None, "--ckpt")


@pytest.fixture
def out(shipped, monkeypatch):
    """That export's folder."""
    monkeypatch.setenv("DATA_DIR", str(shipped.root))
    return shipped.run("teacher") / "export"


def fine_tuned(data: Data, task: str, encoder: str, model: str = "bert") -> None:
    if task != "sst2":
        write_task(data.root, task)
    call(
        "run_fine_tune", "--experiment", "teacher", "--task", task, "--model", model, "--ptrain_ver", encoder,
        "--max_seq_len", 20, "--total_step", 2, "--batch_size", 4, "--lr", 5e-2, "--device_id", -1, "--no_preflight",
    )  # fmt: skip


# A HuggingFace folder.


@pytest.mark.parametrize(("task", "model"), [("sst2", "bert"), ("mnli", "albert"), ("qnli", "bert"), ("stsb", "bert")])
def test_transformers_reads_the_folder_and_says_the_same(task, model, data, encoder, albert, run):
    fine_tuned(data, task, albert if model == "albert" else encoder, model)
    dev = TASKS[task].dev[0]
    run(*EXPORT, task, "--dataset", dev)
    made, loaded = data.run("teacher", task, model) / "export", loaded_teacher(task, model)
    assert {file.name for file in made.iterdir()} == HUGGINGFACE
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(made)
    assert check.largest_difference(loaded, check.by_transformers(theirs)) < 1e-6
    assert check.largest_difference(loaded, check.by_transformers(read_model(made))) == 0
    assert theirs.config.id2label == dict(enumerate(TASKS[task].label_names))
    assert theirs.config.problem_type == ("regression" if task == "stsb" else "single_label_classification")
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    assert tokenizer.model_max_length == 20
    texts = ["a good film " * 20, "a bad film"][: len(TASKS[task].text)]
    fields = dict(zip(("text", "text_pair"), texts, strict=False))
    told = transformers.pipeline("text-classification", model=str(made), truncation=True, top_k=None)(fields)
    inputs = loaded.tokenizer(*texts, truncation=True, max_length=20, return_tensors="pt")
    with torch.no_grad():
        logits = loaded.model(inputs["input_ids"], None, inputs["token_type_ids"]).logits[0]
    want = logits if task == "stsb" else logits.softmax(0)
    assert inputs["input_ids"].shape[1] == 20
    got = {answer["label"]: answer["score"] for answer in told}
    assert got == pytest.approx(dict(zip(TASKS[task].label_names, want.tolist(), strict=True)), abs=1e-6)


def test_nothing_in_the_folder_knows_this_machine_and_all_may_read_it(data, teacher, run):
    run(*EXPORT, "sst2")
    for file in (teacher / "export").iterdir():
        assert not re.search(rb"/tmp|/home|/root|pytest|" + str(PROJECT).encode(), file.read_bytes()), file
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask()


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_the_card_has_the_measured_table_and_an_example_that_cuts(data, teacher, run):
    run("run_fine_tune_eval", "--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    run(*EXPORT, "sst2", "--ckpt", 2)
    accuracy = json.loads((teacher / "eval_dev.json").read_text())["checkpoints"]["2"]["accuracy"]
    about = json.loads((teacher / "export" / "export.json").read_text())
    assert about["step"] == 2 and about["forms"]["torch"]["scores"] == {"accuracy": accuracy}
    text = (teacher / "export" / "README.md").read_text()
    assert text == card(about)
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    import yaml

    result = yaml.safe_load(head)["model-index"][0]["results"][0]
    assert result["metrics"] == [{"type": "accuracy", "value": round(accuracy, 4)}]
    assert f"| {accuracy:.4f} |" in body and "truncation=True" in body and "`negative`, `positive`" in body
    assert "lean" not in body


def test_a_run_is_exported_without_its_data_but_then_without_scores(data, teacher, run, refused, caplog):
    shutil.rmtree(data.file("SST-2"))
    assert "int8's loss is measured on --dataset dev" in refused(*EXPORT, "sst2", "--int8")
    assert not (teacher / "export").exists()
    run(*EXPORT, "sst2")
    assert "no scores: " in caplog.text
    assert "Not scored" in (teacher / "export" / "README.md").read_text()


def test_a_folder_that_is_there_is_kept(data, teacher, run, refused, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.tex").write_text("x")
    assert refused(*EXPORT, "sst2", "--out", own, "--overwrite").endswith("it is left alone; name another --out")
    assert [file.name for file in own.iterdir()] == ["thesis.tex"]
    run(*EXPORT, "sst2", "--ckpt", 2)
    assert "pass --overwrite to replace it" in refused(*EXPORT, "sst2")
    run(*EXPORT, "sst2", "--overwrite")
    assert json.loads((teacher / "export" / "export.json").read_text())["step"] == 4
    assert not [file for file in teacher.iterdir() if file.name.startswith(".")]


def test_other_logits_are_refused_and_the_older_export_is_kept(data, teacher, run, refused, monkeypatch):
    run(*EXPORT, "sst2")
    before = {file.name: file.read_bytes() for file in (teacher / "export").iterdir()}

    def off(model):
        right = check.by_transformers(model)
        return lambda inputs: right(inputs) + 2e-4

    monkeypatch.setattr(folder, "by_transformers", off)
    told = refused(*EXPORT, "sst2", "--overwrite")
    assert told.startswith("torch: a logit differs by 0.0002 from the checkpoint's, more than 0.0001")
    assert {file.name: file.read_bytes() for file in (teacher / "export").iterdir()} == before
    monkeypatch.setattr(folder, "by_transformers", lambda model: lambda inputs: np.full((1, 2), math.nan))
    assert refused(*EXPORT, "sst2", "--overwrite").startswith("torch: a logit differs by nan")
    shutil.rmtree(teacher / "export")
    refused(*EXPORT, "sst2")
    assert not [file for file in teacher.iterdir() if "export" in file.name]


def test_a_disk_that_fails_at_the_last_moment_loses_nothing(tmp_path, monkeypatch):
    def fail(building, folder):
        raise OSError("input/output error")

    files.replace_folder(tmp_path / "made", lambda building: (building / "one").write_text("1"))
    monkeypatch.setattr(files, "put_in_place", fail)
    with pytest.raises(OSError, match="input/output error"):
        files.replace_folder(tmp_path / "made", lambda building: (building / "two").write_text("2"))
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["made", "made/one"]


def test_packages_that_are_not_installed_are_named(data, teacher, refused, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name))
    told = refused(*EXPORT, "sst2", "--int8")
    assert told == "ONNX needs onnx, onnxscript, onnxruntime: pip install -r requirements-export.txt"
    assert not (teacher / "export").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--max_loss", "0.1"), "--max_loss is what --int8 may lose; give that, too, or leave it out"),
        (("--int8", "--max_loss", "-0.1"), "--max_loss -0.1: a share of the score is needed, 0 to 1"),
        (("--dataset", "test"), "--dataset test: this split of sst2 has no labels, so nothing can be measured"),
        (("--ckpt", "3"), "--ckpt 3: "),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(words, told, data, teacher, refused):
    assert refused(*EXPORT, "sst2", *words).startswith(told)


# ONNX and int8.


@pytest.mark.slow
@NEEDS_ONNX
def test_every_form_is_written_and_near_the_checkpoint(out):
    there = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    assert there == HUGGINGFACE | {"lean.py", *lean.FILES.values()}
    assert (out / "lean.py").read_bytes() == Path(lean.__file__).read_bytes()
    about = json.loads((out / "export.json").read_text())
    assert [form for form in about["forms"]] == ["torch", "onnx", "int8"]
    assert about["forms"]["torch"]["difference"] == 0 < about["forms"]["int8"]["difference"]
    loaded = loaded_teacher()
    run = lean.open_network(out / lean.FILES["onnx"], 1)
    worst = check.largest_difference(loaded, lambda inputs: onnx.classify(run, inputs))
    assert worst == pytest.approx(about["forms"]["onnx"]["difference"], abs=1e-5) and worst < 1e-4
    assert len({tuple(each["input_ids"].shape) for each in check.examples(loaded)}) == 5
    text = (out / "README.md").read_text()
    assert "`onnx/model_int8.onnx`" in text and "from lean import open_folder" in text


@pytest.mark.slow
@NEEDS_ONNX
def test_onnx_files_know_nothing_of_this_machine(out):
    import onnx as library

    for name in lean.FILES.values():
        assert not re.search(rb"/tmp|/home|/root|site-packages|\.py", (out / name).read_bytes())
        model = library.load(out / name)
        assert not model.metadata_props and not any(node.metadata_props for node in model.graph.node)
        assert {given.name for given in model.graph.input} == set(onnx.NAMES)
        assert {given.type.tensor_type.elem_type for given in model.graph.input} == {library.TensorProto.INT64}


@pytest.mark.slow
@NEEDS_ONNX
def test_int8_that_loses_too_much_is_refused_and_nothing_is_left(out, data, teacher, refused, monkeypatch):
    """And so is an ONNX file with other logits."""
    monkeypatch.setenv("DATA_DIR", str(data.root))
    exported = {form: (out / file).read_bytes() for form, file in lean.FILES.items()}
    monkeypatch.setattr(folder, "write_onnx", lambda model, file: file.write_bytes(exported["onnx"]))
    monkeypatch.setattr(folder, "write_int8", lambda file, made: made.write_bytes(exported["int8"]))
    right = check.split_logits

    def wrong_as_int8(run, rows, batch_size):
        wrong = torch.eye(2)[1 - torch.from_numpy(np.array(rows.label))]
        return wrong if batch_size == 1 else right(run, rows, batch_size)

    monkeypatch.setattr(folder, "split_logits", wrong_as_int8)
    told = refused(*EXPORT, "sst2", "--int8")
    assert re.match(r"int8: accuracy on dev falls from [\d.]+ to [\d.]+, by more than --max_loss 0.01; nothing", told)
    monkeypatch.setattr(folder, "classify", lambda run, inputs: onnx.classify(run, inputs) + 1)
    assert refused(*EXPORT, "sst2", "--int8").startswith("onnx: a logit differs by 1 from the checkpoint's")
    assert not [file for file in teacher.iterdir() if "export" in file.name]


@pytest.mark.slow
@NEEDS_ONNX
def test_a_network_on_word_vectors_has_no_huggingface_folder_but_the_other_forms(data, tmp_path, refused, monkeypatch):
    from fine_tune.data.words import SPECIAL, word_tokenizer

    words = ["good", "bad", "film"]
    shape = WordConfig(
        network="glove-cnn", vocab_size=len(SPECIAL) + len(words), embedding_size=6, num_filters=4,
        max_position_embeddings=12,
    )  # fmt: skip
    network = Classifier(WordEncoder(shape), 2, 0.1).eval()
    torch.save(network.state_dict(), tmp_path / "model-1.pt")
    config = {"experiment": "words", "model": "glove-cnn", "max_seq_len": 12, "method": "glove"}
    loaded = Loaded(network, word_tokenizer(words, True, 12), config, tmp_path, 1)
    with pytest.raises(ValueError, match="glove-cnn: transformers has no class for networks on word vectors"):
        folder.export(loaded, TASKS["sst2"], tmp_path / "made", [], "dev", 1.0, False)
    assert not (tmp_path / "made").exists()
    about = folder.export(loaded, TASKS["sst2"], tmp_path / "made", ["onnx", "int8"], "dev", 1.0, False)
    assert [*about["forms"]] == ["onnx", "int8"] and not network.training
    assert "AutoModel" not in (text := (tmp_path / "made" / "README.md").read_text()) and "pipeline(" not in text
    model = lean.open_folder(tmp_path / "made", "onnx", 1)
    texts = ["Good film", "bad " * 30, "unheard"]
    encoded = loaded.tokenizer(texts, truncation=True, max_length=12, padding=True, return_tensors="pt")
    with torch.no_grad():
        want = network(encoded["input_ids"], encoded["attention_mask"].float(), torch.zeros(3, 12)).logits
    assert np.abs(model.logits([(text,) for text in texts]) - want.numpy()).max() < 1e-5


def test_exporting_leaves_a_model_in_evaluation_mode(data, teacher, monkeypatch, tmp_path):
    """Even where the exporter is handed one in training mode."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    loaded, seen = loaded_teacher(), []

    def fake(module, inputs, file, **settings):
        seen.append((module.training, len({id(tensor) for tensor in inputs}), settings["dynamo"]))
        Path(file).write_bytes(b"")

    monkeypatch.setattr(torch.onnx, "export", fake)
    onnx.write_onnx(loaded.model.train(), tmp_path / "model.onnx")
    assert seen == [(False, 3, True)]
    assert not any(module.training for module in loaded.model.modules())


@pytest.mark.slow
@NEEDS_ONNX
def test_runs_and_their_forms_stand_in_one_report(out, run, refused, capsys, tmp_path):
    ask = ("compare_runs", "--task", "sst2", "--experiment", "teacher", "--device_id", -1, "--sentences", 5)
    capsys.readouterr()
    run(*ask, "--format", "torch,onnx,int8", "--threads", 1, "--out", tmp_path / "report")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:2] for row in table[2:]] == [["teacher", form] for form in ("torch", "onnx", "int8")]
    assert table[0][1:4] == ["format", "accuracy", "agrees"] and table[3][2] == table[2][2]
    with (tmp_path / "report" / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    small, whole = (float(rows[number]["MB"]) * 1e6 for number in (2, 1))
    assert (small, whole) == tuple((out / lean.FILES[form]).stat().st_size for form in ("int8", "onnx"))
    assert all(0 < float(row["p50_ms_1"]) <= float(row["p95_ms_1"]) for row in rows)
    assert [row["sentences_per_second_32"] != "" for row in rows] == [True, True, False]  # int8 reads one at a time
    assert (tmp_path / "report" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "report" / "report.md").read_text().splitlines()) == 7
    assert "pass --overwrite" in refused(*ask, "--out", tmp_path / "report")


# What cannot be meant.


def test_an_export_of_another_checkpoint_is_refused(data, teacher, run, refused):
    run(*EXPORT, "sst2", "--ckpt", 2)
    (teacher / "export" / "onnx").mkdir()
    ask = ("predict", "--experiment", "teacher", "--task", "sst2", "--input", "-", "--format", "onnx")
    make = "python export_model.py --experiment teacher --task sst2 --onnx --overwrite"
    assert refused(*ask).endswith(f"model.onnx is not there; make it with: {make}")
    (teacher / "export" / "onnx" / "model.onnx").write_bytes(b"")
    assert refused(*ask).endswith(f"was made from another checkpoint than 4; make it anew: {make}")


def test_a_folder_without_a_classifier_is_refused(encoder):
    """It would answer by a random one."""
    with pytest.raises(ValueError, match=r"weights are missing, classifier\.bias among them; has it a classifier\?"):
        read_model(Path(encoder))


def test_a_network_that_the_library_lacks_is_refused():
    from fine_tune.model.families import to_transformers

    network = Classifier(WordEncoder(WordConfig(network="glove-cnn", vocab_size=5, embedding_size=4)), 2, 0.0)
    with pytest.raises(ValueError, match="word_network"):
        to_transformers(network, ("a", "b"), "single_label_classification")
