"""Tests of distillation from logits in a file: `run_fine_tune_distill.py`, and chains of assistants."""

import json
import os
import signal
import sys

import forks
import pytest
import torch
import torch.nn.functional as F
from test_resume import interrupted
from transformers import AutoModel

from fine_tune.model.load import load_run
from fine_tune.tasks.table import TASKS
from fine_tune.teacher.offline import read_logits

SIZES = ("--d_model", 16, "--d_ff", 32, "--num_attention_heads", 2, "--num_hidden_layers", 2, "--max_seq_len", 24)
QUICK = ("--device_id", -1, "--batch_size", 8, "--total_step", 4, "--warmup_step", 1, "--log_step", 1)
OWN = ("--task", "sst2", "--dataset", "teacher_bert_sst2", *SIZES, *QUICK)


@pytest.fixture
def said(data, run, teacher):
    """The teacher, and its logits in a file."""
    run("run_fine_tune_gen_logits", "--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    return teacher / "sst2-distill.jsonl"


def weights_of(experiment: str, step: int | None = None):
    return load_run(experiment, "bert", TASKS["sst2"], step, None, "--ckpt").model.encoder


def test_the_loss_is_that_of_the_document(data, run, said, capsys):
    """Both losses count alike at temperature 1; its soft loss is ours plus the teacher's entropy: a constant."""
    run("run_fine_tune_distill", "--experiment", "s", *OWN, "--dropout", 0, "--lr", 1e-9, "--batch_size", 24)
    assert "everything  random" in capsys.readouterr().out
    rows = [json.loads(line) for line in said.read_text(encoding="utf-8").splitlines()]
    logits, label = (torch.tensor([row[name] for row in rows]) for name in ("logits", "label"))
    loaded = load_run("s", "bert", TASKS["sst2"], None, None, "--ckpt")
    words = loaded.tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    student = loaded.model(**words).logits
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
    soft = -(logits.softmax(-1) * student.log_softmax(-1)).sum(-1).mean() - entropy
    hard = F.cross_entropy(student, label)
    (entry, *_) = data.metrics("s")
    found = entry["hard_loss"], entry["soft_loss"], entry["loss"]
    assert found == pytest.approx((hard.item(), soft.item(), (hard + soft).item()), rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_chain_of_assistants(data, run, said):
    """Every student's logits teach the next, smaller one."""
    run("run_fine_tune_distill", "--experiment", "TA", *OWN, "--seed", 1)
    run("run_fine_tune_gen_logits", "--experiment", "TA", "--task", "sst2", "--device_id", -1)
    words = [word if word != "teacher_bert_sst2" else "TA_bert_sst2" for word in OWN]
    run("run_fine_tune_distill", "--experiment", "s", *words, "--num_hidden_layers", 1)
    about = data.config("s", name="run.json")
    assert data.config("s")["num_hidden_layers"] == 1 and data.config("s")["dataset"] == "TA_bert_sst2"
    assert about["logits_sha256"] != data.config("TA", name="run.json")["logits_sha256"]
    run("run_fine_tune_eval", "--experiment", "s", "--task", "sst2", "--device_id", -1)
    assert json.loads((data.run("s") / "eval_dev.json").read_text(encoding="utf-8"))["rows"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "layers"),
    [
        pytest.param(("--init_end", 2), {0: 0, 1: 1}, marks=pytest.mark.slow),
        pytest.param(("--init_step", 2), {0: 0, 1: 2}, marks=pytest.mark.slow),
        (("--init_start", 2, "--init_step", 2), {0: 1, 1: 3}),
        pytest.param(("--num_hidden_layers", 4), {0: 0, 1: 1, 2: 2, 3: 3}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("part", ["all", "attn"])
def test_a_range_of_layers_is_copied(part, flags, layers, data, run, said):
    """From a fine-tuned run; whole, or the linear maps of their attention alone."""
    start = ("--init_exp", "teacher", "--init_part", part, *flags)
    run("run_fine_tune_distill", "--experiment", "s", *OWN, *start, "--lr", 1e-12)
    run("run_fine_tune_distill", "--experiment", "plain", *OWN, "--lr", 1e-12, *flags[:2] * (flags[0][2] == "n"))
    student, source, plain = weights_of("s"), weights_of("teacher", 4), weights_of("plain")
    for own, layer in layers.items():
        for name, weights in student.encoder.layer[own].state_dict().items():
            linear = "attention" in name and "LayerNorm" not in name
            if part == "all" or linear:
                torch.testing.assert_close(weights, source.encoder.layer[layer].state_dict()[name])
            elif "dense.weight" in name:
                assert not torch.allclose(weights, source.encoder.layer[layer].state_dict()[name], atol=1e-3), name
    words = student.embeddings.word_embeddings.weight
    copied = torch.allclose(words, source.embeddings.word_embeddings.weight)
    assert copied == (part == "all") and plain.config.num_hidden_layers == len(layers)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--max_seq_len", 128), ("--type_vocab_size", 1)], ids=str)
def test_embeddings_of_another_shape_stay_random(flags, data, run, said, capsys):
    start = ("--init_exp", "teacher", "--init_step", 2)
    run("run_fine_tune_distill", "--experiment", "s", *OWN, *start, *flags)
    told = capsys.readouterr().out
    assert "embeddings  random" in told and "layer 2     copied from layer 3" in told


@pytest.mark.slow
def test_layers_of_a_pretrained_encoder_are_copied(data, run, said, encoder):
    run(
        "run_fine_tune_distill",
        "--experiment",
        "s",
        *OWN,
        "--init_ptrain_ver",
        encoder,
        "--init_step",
        2,
        "--lr",
        1e-12,
    )
    want = torch.load(data.run("s") / "model-4.pt", weights_only=True)
    source = AutoModel.from_pretrained(encoder).encoder.layer[2].output.dense.weight
    torch.testing.assert_close(want["encoder.encoder.layer.1.output.dense.weight"], source)


REFUSED = {
    "no logits": (("--dataset", "train"), "--dataset train: has no logits to learn; name a run with logits"),
    "no file": (
        ("--dataset", "other_bert_sst2"),
        "with: python run_fine_tune_gen_logits.py --experiment other",
    ),
    "no run": (("--dataset", "nobody"), "--dataset 'nobody': sst2 has the splits train, dev, test"),
    "elsewhere": (("--dataset", "../x"), "--dataset '../x': sst2 has the splits train, dev, test"),
    "classes": (("--num_class", 3), "--num_class 3: sst2 has 2 classes; leave the flag out"),
    "heads": (("--num_attention_heads", 3), "--num_attention_heads 3 does not divide --d_model 16"),
    "range": (("--init_exp", "teacher"), "--init_start 1 --init_end 4 --init_step 1 names 4 layers, but --num_hidden"),
    "end": (("--init_exp", "teacher", "--init_end", 9), "--init_end 9: the source has 4 layers"),
    "nothing": (("--init_step", 2), "--init_step says what to copy, but not from where: give --init_exp or --init_p"),
    "two": (("--init_exp", "teacher", "--init_ptrain_ver", "b"), "both name what to copy; give one of them"),
    "width": (
        ("--init_exp", "teacher", "--init_end", 2, "--d_model", 32),
        "--d_model 32: weights of 16 cannot be",
    ),
    "source": (("--init_exp", "nobody"), "--init_exp: no run at "),
    "albert": (("--model", "albert", "--ptrain_ver", "ENCODER", "--init_exp", "teacher"), "share one set of weights"),
    "devices": (("--num_gpu", 0), "--num_gpu and --device_id both name a device"),
}


FAST = ("no logits", "no file", "range", "nothing", "width")


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case if case in FAST else pytest.param(case, marks=pytest.mark.slow) for case in REFUSED]
)
def test_bad_input_is_told_in_one_line(case, data, refused, said, encoder):
    data.run("other").mkdir()
    flags, told = REFUSED[case]
    flags = [encoder if word == "ENCODER" else word for word in flags]
    assert told in refused("run_fine_tune_distill", "--experiment", "s", *OWN, *flags)
    assert not data.run("s").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("logits", "told"),
    [(None, "logits must be 2 numbers, got None"), ([1.0], "logits must be 2 numbers, got [1.0]"),
     (["a", "b"], "logits must be 2 numbers"), ([True, False], "logits must be 2 numbers"),
     ([1.0, float("nan")], "logits that are not finite")],
    ids=str,
)  # fmt: skip
def test_logits_that_cannot_be_used_are_told_with_their_line(logits, told, data, refused, said):
    lines = said.read_text(encoding="utf-8").splitlines()
    lines[4] = json.dumps(json.loads(lines[4]) | {"logits": logits})
    said.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert f"{said}:5: {told}" in refused("run_fine_tune_distill", "--experiment", "s", *OWN)
    assert not data.run("s").exists()


OTHERS = ("\x85", "byte order mark", "blank lines at the end", "CRLF")


@pytest.mark.parametrize("change", ["\u2028", *(pytest.param(change, marks=pytest.mark.slow) for change in OTHERS)])
def test_a_file_of_logits_is_read_however_it_was_written(change, data, run, said):
    rows = [json.loads(line) for line in said.read_text(encoding="utf-8").splitlines()]
    if len(change) == 1:
        rows[0]["text"] += f" good{change}film"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text += "\n\n" * (change == "blank lines at the end")
    text = text.replace("\n", "\r\n") if change == "CRLF" else text
    said.write_bytes(text.encode("utf-8-sig" if change == "byte order mark" else "utf-8"))
    run("run_fine_tune_distill", "--experiment", "s", *OWN)
    torch.testing.assert_close(read_logits(said, 2), torch.tensor([row["logits"] for row in rows]))


@pytest.mark.slow
def test_a_run_whose_name_begins_with_test_has_labels(data, run, teacher):
    teacher.rename(data.run("test"))
    run("run_fine_tune_gen_logits", "--experiment", "test", "--task", "sst2", "--device_id", -1)
    words = [word if word != "teacher_bert_sst2" else "test_bert_sst2" for word in OWN]
    run("run_fine_tune_distill", "--experiment", "s", *words)
    assert len(data.metrics("s")) == 4
    assert read_logits(data.run("test") / "sst2-distill.jsonl", 2).shape == (24, 2)


@pytest.mark.slow
def test_an_albert_learns_from_a_bert(data, run, said, albert):
    flags = ("--model", "albert", "--ptrain_ver", albert, "--d_emb", 8)
    run("run_fine_tune_distill", "--experiment", "s", *OWN, *flags)
    state = torch.load(data.run("s", model="albert") / "model-4.pt", weights_only=True)
    assert state["encoder.embeddings.word_embeddings.weight"].shape[1] == 8
    assert sum("albert_layers" in name and "query.weight" in name for name in state) == 1


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_last_bit(data, run, said):
    run("run_fine_tune_distill", "--experiment", "whole", *OWN)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        interrupted(patch, "step", 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run("run_fine_tune_distill", "--experiment", "cut", *OWN)
    run("run_fine_tune_distill", "--experiment", "cut", *OWN, "--resume")
    assert data.metrics("cut") == data.metrics("whole")
    one, other = data.state("whole", 4), data.state("cut", 4)
    assert all(torch.equal(weights, other[name]) for name, weights in one.items())


@pytest.mark.slow
def test_two_processes_do_what_one_does(data, run, said, tmp_path):
    flags = (*OWN, "--dropout", 0, "--no_lazy_embedding")
    run("run_fine_tune_distill", "--experiment", "one", *flags, "--accum_step", 2)
    processes = forks.start(
        data.root, tmp_path / "log", "run_fine_tune_distill", "--experiment", "two", *flags, ranks=2
    )
    assert forks.finish(processes) == [0, 0], (tmp_path / "log").read_text()
    for one, two in zip(data.metrics("one"), data.metrics("two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.slow
def test_the_configuration_repeats_the_run(data, run, said, monkeypatch):
    run("run_fine_tune_distill", "--experiment", "one", *OWN, "--init_exp", "teacher", "--init_step", 2)
    monkeypatch.setattr(sys, "argv", ["test"])
    run("run_fine_tune_distill", "--from_config", data.run("one") / "config.json", "--experiment", "two")
    assert data.metrics("two") == data.metrics("one")
