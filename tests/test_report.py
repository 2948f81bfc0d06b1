"""Tests of what a run shows: pictures, and runs in one table."""

import csv
import json

import pytest
import torch
import transformers
from conftest import SIZES
from torch.utils.flop_counter import FlopCounterMode

from fine_tune.model.classifier import Classifier
from fine_tune.scores import efficiency

QUICK = ("--task", "sst2", "--device_id", -1, "--batch_size", 4, "--total_step", 4, "--log_step", 2)


@pytest.fixture
def runs(data, run, teacher):
    """A LAD run `lad` and a run without a teacher `alone`."""
    run("run_lad_distil", "--experiment", "lad", "--teacher_exp", "teacher", *QUICK)
    run("run_student_fine_tune", "--experiment", "alone", "--teacher_exp", "teacher", *QUICK)
    return data.run("lad"), data.run("alone")


@pytest.mark.slow
def test_pictures_of_a_run(run, runs, capsys):
    capsys.readouterr()
    run("plot_run", *runs)
    files = [runs[0] / f"{name}.{kind}" for name in ("losses", "gates", "shares", "spread") for kind in ("png", "csv")]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    with (runs[0] / "shares.csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = json.loads((runs[0] / "config.json").read_text())["num_hidden_layers"]
    for student in range(1, layers + 1):
        assert sum(float(row["share"]) for row in rows if row["student_layer"] == str(student)) == pytest.approx(1)


@pytest.mark.slow
def test_runs_in_one_table(data, run, runs, capsys):
    run("run_fine_tune_eval", "--experiment", "lad", "--task", "sst2", "--device_id", -1)
    accuracy = json.loads((runs[0] / "eval_dev.json").read_text())["checkpoints"]["4"]["accuracy"]
    capsys.readouterr()
    names = ("teacher", "lad", "alone")
    run("compare_runs", "--task", "sst2", "--device_id", -1, "--sentences", 4, "--experiment", *names)
    lines = capsys.readouterr().out.strip().splitlines()[2:]
    assert len({len(line) for line in lines}) == 1
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert table[0] == ["run", "accuracy", "agrees", "parameters", "size", "ms/sentence", "speed-up"]
    assert [row[0] for row in table[2:]] == list(names)
    assert table[3][1] == f"{accuracy:.4f}"
    assert table[2][2] == "1.0000" and table[2][6] == "1.00x" and all(float(row[5]) > 0 for row in table[2:])
    assert table[3][3] == table[4][3]


def test_a_missing_run_is_not_compared(refused, teacher):
    message = refused("compare_runs", "--task", "sst2", "--device_id", -1, "--experiment", "teacher", "absent")
    assert "absent_bert_sst2" in message


@pytest.mark.parametrize("kind", ["bert", "albert"])
@pytest.mark.parametrize("tokens", [1, 13])
def test_operations_are_those_that_torch_counts(kind, tokens):
    config = (
        transformers.BertConfig(**SIZES) if kind == "bert" else transformers.AlbertConfig(**SIZES, embedding_size=8)
    )
    config.num_labels = 3
    model = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    with FlopCounterMode(display=False) as counted:
        model(torch.ones(1, tokens, dtype=torch.int64))
    assert efficiency.operations(config, tokens, 3) == counted.get_total_flops()


def test_embeddings_are_tables_of_vectors():
    model = Classifier(transformers.AutoModel.from_config(transformers.BertConfig(**SIZES)), 2, 0.0)
    tables = (SIZES["vocab_size"] + SIZES["max_position_embeddings"] + 2) * SIZES["hidden_size"]
    assert efficiency.in_embeddings(model) == tables < efficiency.parameters(model)


def test_contenders_take_turns_in_blocks_after_a_warm_up():
    order: list[str] = []
    times = efficiency.timed_in_turns([[lambda name=name: order.append(name)] * 30 for name in "ab"])
    warm, block = efficiency.WARM_UP, efficiency.BLOCK
    assert "".join(order) == "a" * (warm + block) + "b" * (warm + block) + "a" * 11 + "b" * 11
    assert [len(taken) for taken in times] == [30, 30]


def test_forms_that_were_not_exported_are_left_out_with_a_line(refused, run, teacher, capsys, caplog):
    pytest.importorskip("onnxruntime")
    ask = ("compare_runs", "--task", "sst2", "--experiment", "teacher", "--device_id", -1, "--sentences", 2, "--format")
    run(*ask, "torch,int8")
    make = "make it with: python export_model.py --experiment teacher --task sst2 --int8"
    assert "teacher as int8 is left out: " in caplog.text and make in caplog.text
    assert capsys.readouterr().out.count("| teacher |") == 1
    assert refused(*ask, "int8") == "--format int8: teacher, the reference, has no such form; see above"
    told = refused(*ask, "torch,gguf")
    assert told == "--format torch,gguf: some of torch, onnx, int8 are needed, with commas"
