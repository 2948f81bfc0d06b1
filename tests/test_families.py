"""Tests of teachers of every family: their logits, their import, every cell of the table of students and methods."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import SIZES, Data, call, write_task
from families import (
    BERT,
    EMPTY,
    METHODS,
    OWN,
    PAGE,
    PIECES,
    TINY,
    architecture,
    save_classifier,
    save_tokenizer,
    tiny_classifier,
    tiny_config,
    with_table,
)
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz import ANY, SPOILT, fuzz, read_or_refused, settings, spoiled
from test_resume import Killed, die, interrupted

from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import ImportConfig, PrecisionConfig
from fine_tune.hardware.cpu.kernels import attend_by_length, use_cpu_kernels
from fine_tune.hardware.precision import set_precision
from fine_tune.model.architectures import FAMILIES, first_position, positions
from fine_tune.model.classifier import Classifier
from fine_tune.model.copy_layers import init_student
from fine_tune.model.encoder import student_encoder
from fine_tune.model.families import from_transformers, to_transformers
from fine_tune.model.load import load_run
from fine_tune.model.placement import place
from fine_tune.path import TRANSFORMERS
from fine_tune.run.imported import class_order, import_teacher
from fine_tune.tasks.table import TASKS

QUICK = ("--device_id", -1, "--task", "sst2", "--batch_size", 8, "--lr", 1e-3, "--total_step", 3, "--warmup_step", 1)
NAMES = {"id2label": {0: "POSITIVE", 1: "Negative"}, "label2id": {"POSITIVE": 0, "Negative": 1}}
SLOW = pytest.mark.slow


def test_the_names_of_the_families_are_the_choices_of_the_flags():
    assert tuple(FAMILIES) == TRANSFORMERS == tuple(TINY)


# The same logits, states and pooled output as the library's.


def padded(kind: str, pad: int) -> dict[str, torch.Tensor]:
    """Four rows of 9, 5, 3 and 7 tokens."""
    lengths = torch.tensor([9, 5, 3, 7])
    real = torch.arange(9) < lengths[:, None]
    ids = torch.randint(5, 60, (4, 9), generator=torch.Generator().manual_seed(3))
    types = torch.zeros_like(ids)
    if kind in ("bert", "albert", "electra"):
        types[:, 3:] = 1
    return {"input_ids": ids.where(real, pad), "attention_mask": real.float(), "token_type_ids": types * real}


def theirs_of(model: transformers.PreTrainedModel, rows: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
    """Logits and states as a user of the library would have them."""
    takes = model.forward.__annotations__
    given = {name: value for name, value in rows.items() if value is not None and name in takes}
    with torch.no_grad():
        return model(**given).logits, model.base_model(**given, output_hidden_states=True).hidden_states


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {kind: (kind, {}) for kind in TINY} | {
    "deberta, segments": ("deberta", {"type_vocab_size": 2}),
    "deberta, tanh": ("deberta", {"pooler_hidden_act": "tanh"}),
    "deberta-v2, convolution": ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
    "electra, narrow embeddings": ("electra", {"embedding_size": 8}),
    "distilbert, sinusoids": ("distilbert", {"sinusoidal_pos_embds": True}),
    "roberta, padding 0": ("roberta", {"pad_token_id": 0}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_classifier_and_its_import_and_its_export_say_the_same(variant):
    """With padding and without, with our kernels, a head in another order; states of all layers are the library's."""
    kind, changes = VARIANTS[variant]
    config = tiny_config(kind, 3)
    for name, value in changes.items():
        setattr(config, name, value)
    theirs = tiny_classifier(config)
    order = [2, 0, 1]
    ours = from_transformers(theirs, 0.1, order).eval()
    rows = padded(kind, config.pad_token_id)
    real = rows["attention_mask"][..., None]
    want, states = theirs_of(theirs, rows)
    assert (want - want[0]).abs().max() > 0.01, "the rows are told apart"
    for step in (lambda: None, lambda: use_cpu_kernels(ours), lambda: attend_by_length(ours.encoder)):
        step()
        with torch.no_grad():
            out = ours(**rows)
            torch.testing.assert_close(out.logits, want[:, order], rtol=0, atol=1e-5)
            assert len(out.hidden_states) == ours.num_layers == 4
            for one, other in zip(out.hidden_states, states[1:], strict=True):
                torch.testing.assert_close(one * real, other * real, rtol=1e-4, atol=1e-5)
            embedded = ours.states(**rows)[0]
            torch.testing.assert_close(embedded * real, states[0] * real, rtol=1e-4, atol=1e-5)
            assert torch.equal(out.first, out.hidden_states[-1][:, 0])
            torch.testing.assert_close(ours.linear_layer(out.pooled), out.logits, rtol=0, atol=1e-5)
            alone = {name: value[1:2, :5] for name, value in rows.items()} | {"attention_mask": None}
            torch.testing.assert_close(ours(**alone).logits, out.logits[1:2], rtol=0, atol=1e-5)
    back = to_transformers(ours, ("a", "b", "c"), "single_label_classification")
    assert type(back) is type(theirs) and back.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert not back.training and back.config.problem_type == "single_label_classification"
    torch.testing.assert_close(theirs_of(back, rows)[0], want[:, order], rtol=0, atol=1e-5)


def test_a_classifier_without_the_head_of_its_family_is_not_exported():
    config = tiny_config("electra")
    model = Classifier(transformers.AutoModel.from_config(config), 2, 0.1)
    assert model.dense is None
    with pytest.raises(ValueError, match="no electra that is classified by its first token alone"):
        to_transformers(model, ("a", "b"), "single_label_classification")


def test_half_precision_is_refused_where_the_library_has_none():
    model = from_transformers(tiny_classifier(tiny_config("deberta")), 0.0)
    flags = Flags({PrecisionConfig: PrecisionConfig(precision="bf16")})
    with pytest.raises(ValueError, match="--precision bf16: the library computes a deberta in float32 only"):
        place(model, torch.device("cpu"), flags)


@pytest.mark.parametrize("kind", TINY)
def test_products_by_onednn_change_nothing_but_rounding(kind, monkeypatch):
    """As on a processor with AVX-512."""
    monkeypatch.setattr("fine_tune.hardware.cpu.linear.AVAILABLE", True)
    theirs = tiny_classifier(tiny_config(kind))
    rows = padded(kind, theirs.config.pad_token_id)
    plain, ours = (from_transformers(theirs, 0.0).train() for _ in range(2))
    use_cpu_kernels(ours)
    for model in (plain, ours):
        model(**rows).logits.square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("kind", [kind for kind, family in FAMILIES.items() if family.half])
def test_half_precision_is_near_and_learns(kind):
    theirs = tiny_classifier(tiny_config(kind))
    rows = padded(kind, theirs.config.pad_token_id)
    want, _ = theirs_of(theirs, rows)
    ours = from_transformers(theirs, 0.0).train()
    use_cpu_kernels(ours)
    set_precision(ours, "bf16")
    out = ours(**rows)
    assert out.logits.dtype == torch.float32 and (out.logits - want).abs().max() < 0.2 * want.abs().max()
    out.logits.sum().backward()
    assert all(weights.grad is not None for name, weights in ours.named_parameters() if "layer.3" in name)
    frozen = from_transformers(theirs, 0.0).eval().requires_grad_(False)
    use_cpu_kernels(frozen)
    set_precision(frozen, "bf16")
    assert (frozen(**rows).logits - want).abs().max() < 0.2 * want.abs().max()


# Students.


FITS = [(kind, student) for kind in TINY for student in (BERT, OWN) if (kind, student) not in EMPTY]


@pytest.mark.parametrize(("kind", "student"), FITS)
def test_a_student_of_all_layers_starts_as_its_teacher(kind, student):
    """Also with fewer positions; so every weight is copied to where it belongs."""
    theirs = tiny_classifier(tiny_config(kind))
    source = from_transformers(theirs, 0.0).eval()
    sizes = {"max_position_embeddings": 12, "type_vocab_size": 2 if student == BERT and kind == "distilbert" else None}
    encoder = student_encoder(source.encoder.config, sizes, 0.0, architecture(kind, student))
    assert positions(encoder.config) == 12
    copied = Classifier(encoder, 2, 0.0, source.dense is not None).eval()
    told = init_student(copied.encoder, source.encoder, {layer: layer for layer in range(4)}, True)
    assert set(told.values()) <= {"copied", *(f"copied from layer {n}" for n in (1, 2, 3, 4)), "random"}
    rows = padded(kind, theirs.config.pad_token_id)
    real = rows["attention_mask"][..., None]
    with torch.no_grad():
        got, want = copied(**rows), source(**rows)
    for one, other in zip(got.hidden_states, want.hidden_states, strict=True):
        torch.testing.assert_close(one * real, other * real, rtol=1e-5, atol=1e-5)
    if (source.dense is None) and hasattr(encoder, "pooler"):
        torch.testing.assert_close(got.pooled, want.pooled, rtol=1e-5, atol=1e-5)


def test_positions_are_counted_from_where_a_family_begins():
    found = {kind: (first_position(config), positions(config)) for kind in TINY for config in [tiny_config(kind)]}
    assert {kind for kind, counts in found.items() if counts == (2, 62)} == {"roberta", "xlm-roberta", "mpnet"}
    assert all(counts in ((2, 62), (0, 64)) for counts in found.values())


# The table: every family, student and method.


class House:
    """A data folder with imported teachers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: dict[str, Path] = {}

    def teacher(self, kind: str) -> str:
        """Name the imported teacher of a family."""
        if kind not in self.made:
            self.made[kind] = save_classifier(kind, self.root / "theirs" / kind, **NAMES)
            words = ("--task", "sst2", "--ptrain_ver", self.made[kind], "--max_seq_len", 24)
            call("import_teacher", "--experiment", f"t-{kind}", *words)
        return f"t-{kind}"


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Of all tests of this file."""
    root = tmp_path_factory.mktemp("house")
    write_task(root, "sst2", train=24)
    return House(root)


@pytest.fixture
def house(shared_house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """The data folder of this test."""
    monkeypatch.setenv("DATA_DIR", str(shared_house.root))
    return shared_house


CELLS = [
    (kind, student, method)
    for kind in TINY
    for student in (BERT, OWN)
    for method in METHODS
    if (kind, student) != ("bert", OWN)  # the same as the first
]
FAST = {(kind, (BERT, OWN)[(at + at // 4) % 2], list(METHODS)[at % 4]) for at, kind in enumerate(TINY)}
"""Every family, student and method once at least, with all checks before the start."""


def cell_command(house: House, kind: str, student: str) -> tuple[Any, ...]:
    """The command of a cell, without the name of its run."""
    start = ("--student_init", "random") if (kind, student) in EMPTY else ()
    words = ("--teacher_exp", house.teacher(kind), "--model", architecture(kind, student), "--num_hidden_layers", 3)
    return (*words, *QUICK, "--log_step", 1, "--state_step", 2, *start)


@pytest.mark.parametrize(
    ("kind", "student", "method"), [pytest.param(*cell, marks=() if cell in FAST else SLOW) for cell in CELLS]
)
def test_every_cell_trains_and_resumes(kind, student, method, house, monkeypatch):
    """Three steps, killed in the last and resumed; LAD's ends as an uncut one to the last bit."""
    script = METHODS[method]
    words = cell_command(house, kind, student)
    if (kind, student, method) not in FAST:
        words = (*words, "--no_preflight")
    name = f"{kind}-{student.replace(' ', '-')}-{method}"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        interrupted(patch, "backward", 3, die)
        call(script, "--experiment", name, *words)
    call(script, "--experiment", name, *words, "--resume")
    folder = Data(house.root).run(name, model=architecture(kind, student))
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [entry["step"] for entry in logged] == [1, 2, 3]
    assert all(np.isfinite(entry["loss"]) and entry["loss"] > 0 for entry in logged)
    assert method == "KD" or all(entry["hidden_loss"] > 0 for entry in logged)
    if method == "LAD":
        call(script, "--experiment", f"{name}-whole", *words)
        whole = Data(house.root).run(f"{name}-whole", model=architecture(kind, student))
        for file in whole.glob("*-3.pt"):
            one, two = (torch.load(each / file.name, weights_only=True) for each in (whole, folder))
            assert list(one) == list(two) and all(torch.equal(value, two[key]) for key, value in one.items())
        assert (whole / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(("kind", "student"), EMPTY)
def test_a_copy_that_would_mean_nothing_is_refused(kind, student, house, refused):
    words = ("--teacher_exp", house.teacher(kind), "--model", architecture(kind, student), *QUICK)
    told = refused("run_kd_distil", "--experiment", "never", *words)
    assert "--student_init random" in told and kind in told


def test_the_page_has_the_table_of_these_tests():
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page) == page
    assert all(len(line) <= 250 for line in page.splitlines())


def test_a_student_of_a_third_family_is_refused(house, refused):
    words = ("--teacher_exp", house.teacher("roberta"), "--model", "electra", *QUICK)
    told = refused("run_kd_distil", "--experiment", "never", *words)
    assert "--model electra: a student of a roberta is one of bert, albert, roberta" in told


def test_a_student_of_logits_in_a_file_is_a_bert_or_an_albert(house, refused):
    words = ("--experiment", "never", "--model", "roberta", "--dataset", "x_bert_sst2", *QUICK)
    assert "--model roberta: this script trains bert, albert" in refused("run_fine_tune_distill", *words)


SIZES_REFUSED = {
    "segments": ("distilbert", ("--type_vocab_size", 2), "distilbert embeds no segments"),
    "embeddings": ("roberta", ("--d_emb", 8), "a ROBERTA's embeddings are as wide as its states"),
}


@pytest.mark.parametrize("what", SIZES_REFUSED)
def test_a_size_that_a_family_does_not_have_is_refused(what, house, refused):
    kind, flags, message = SIZES_REFUSED[what]
    words = ("--teacher_exp", house.teacher(kind), "--model", kind, *QUICK, *flags)
    assert message in refused("run_kd_distil", "--experiment", "never", *words)


def test_all_tokens_of_another_tokenizer_are_refused_and_logits_learned(house, encoder, refused):
    words = ("--teacher_exp", house.teacher("roberta"), "--tokenizer", encoder, "--student_init", "random", *QUICK)
    for script, *more in (["run_lad_distil"], ["run_pkd_distill"], ["run_alp_distil", "--alp_exp", "alp-kd-hidden"]):
        message = refused(script, "--experiment", "never", *words, *more)
        assert "matches all tokens" in message and "take a method that matches [CLS] or logits" in message
    for script in ("run_kd_distil", "run_alp_distil"):
        call(script, "--experiment", f"other-tokens-{script}", *words)


@pytest.mark.parametrize("kind", [kind if kind == "mpnet" else pytest.param(kind, marks=SLOW) for kind in TINY])
def test_a_cache_holds_what_the_teacher_says(kind, house, caplog):
    """To the last bit where our attention keeps rows of different length apart, else but for rounding."""
    words = ("--teacher_exp", house.teacher(kind), "--student_init", "random", "--teacher_cache", "states", *QUICK)
    call("run_lad_distil", "--experiment", f"cached-{kind}", *words)
    (told,) = [text for text in caplog.messages if "largest difference to the live teacher" in text]
    assert float(told.rsplit(" ", 1)[1]) <= (1e-5 if kind in ("mpnet", "deberta", "deberta-v2") else 0)


@pytest.mark.parametrize(
    "kind", ["mpnet", "albert", *(pytest.param(kind, marks=SLOW) for kind in ("deberta-v2", "electra"))]
)
def test_layers_are_recomputed_or_it_is_said_that_they_cannot_be(kind, house, refused):
    words = ("--teacher_exp", house.teacher(kind), "--model", kind, "--student_init", "random", "--dropout", 0, *QUICK)
    more = ("--gradient_checkpointing",)
    if kind in ("mpnet", "albert"):
        message = refused("run_kd_distil", "--experiment", "never", *words, *more)
        assert f"--gradient_checkpointing: the library has none for {kind}" in message
        return
    for name, flags in (("stored", ()), ("recomputed", more)):
        call("run_lad_distil", "--experiment", f"{name}-{kind}", *words, *flags)
    one, two = (Data(house.root).run(f"{name}-{kind}", model=kind) for name in ("stored", "recomputed"))
    one, two = (torch.load(each / "model-3.pt", weights_only=True) for each in (one, two))
    assert all(torch.allclose(value, two[name], atol=1e-6) for name, value in one.items())


@pytest.mark.parametrize(
    "kind", ["distilbert", *(pytest.param(kind, marks=SLOW) for kind in ("xlm-roberta", "deberta"))]
)
def test_an_encoder_of_any_family_is_fine_tuned_and_read_again(kind, house):
    house.teacher(kind)
    words = ("--experiment", "tuned", "--model", kind, "--ptrain_ver", house.made[kind], "--max_seq_len", 24)
    call("run_fine_tune", *words, *QUICK, "--overwrite")
    loaded = load_run("tuned", kind, TASKS["sst2"], None, None, "--ckpt")
    assert (loaded.model.dense is None) == hasattr(loaded.model.encoder, "pooler")
    assert loaded.step == 3


# The import.


def test_an_imported_teacher_is_scored_as_the_library_scores_it(house):
    """A head in another order, its names in other letters: accuracy is that of the classes that are meant."""
    call("run_fine_tune_eval", "--experiment", house.teacher("electra"), "--model", "electra", *QUICK[:4])
    folder = Data(house.root).run("t-electra", model="electra")
    scores = json.loads((folder / "eval_dev.json").read_text(encoding="utf-8"))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(house.made["electra"]).eval()
    rows = load_split(TASKS["sst2"], "dev", load_tokenizer(str(house.made["electra"])), 24)
    logits, _ = theirs_of(model, rows.inputs(np.arange(len(rows))))
    said = [1 if model.config.id2label[number].lower() == "positive" else 0 for number in logits.argmax(1).tolist()]
    assert scores["checkpoints"]["0"]["accuracy"] == pytest.approx(np.mean(np.array(said) == rows.label))
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert about["classes"] == ["POSITIVE", "Negative"] and about["largest_difference"] <= 1e-5
    assert len(about["weights_sha256"]) == 64 and about["end"]
    assert {path.name for path in folder.iterdir()} >= {"config.json", "encoder.json", "tokenizer", "model-0.pt"}


ORDERS = {
    "as files have them": ("sst2", ["0", "1"], [0, 1]),
    "the other way": ("sst2", ["1", "0"], [1, 0]),
    "as people say": ("sst2", ["Positive", "NEGATIVE"], [1, 0]),
    "three": ("mnli", ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], [2, 1, 0]),
    "hyphens, blanks": ("qnli", ["not entailment", "Entailment"], [1, 0]),
    "underscores": ("mrpc", ["Not-Equivalent", "equivalent"], [0, 1]),
    "truth": ("boolq", ["True", "False"], [1, 0]),
    "a number": ("stsb", ["LABEL_0"], [0]),
}


@pytest.mark.parametrize("what", ORDERS)
def test_classes_are_matched_by_name(what, caplog):
    task, names, order = ORDERS[what]
    assert class_order(TASKS[task], names, "x") == order and not caplog.messages


def test_classes_without_names_are_taken_in_order_and_it_is_said(caplog):
    assert class_order(TASKS["mnli"], ["LABEL_0", "LABEL_1", "LABEL_2"], "x") == [0, 1, 2]
    assert "entailment, neutral, contradiction; taken in this order" in caplog.text
    assert class_order(TASKS["sst2"], ["label_1", "label_0"], "x") == [1, 0]


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("sst2", ["happy", "sad"]), ("sst2", ["negative", "Negative"]), ("sst2", ["0", "1", "2"]), ("stsb", ["0", "1"]),
        ("sst2", ["LABEL_0"]), ("qnli", ["negative", "positive"]), ("sst2", ["negative", "1"]),
    ],
)  # fmt: skip
def test_other_classes_are_refused_with_both_lists(task, names):
    with pytest.raises(ValueError) as error:
        class_order(TASKS[task], names, "x")
    assert ", ".join(names) in str(error.value) and ", ".join(TASKS[task].label_names) in str(error.value)


def test_a_regression_is_imported(data, tmp_path):
    data.write("stsb")
    folder = save_classifier("roberta", tmp_path / "theirs", 1, problem_type="regression")
    call("import_teacher", "--experiment", "t", "--task", "stsb", "--ptrain_ver", folder, "--max_seq_len", 24)
    loaded = load_run("t", "roberta", TASKS["stsb"], None, None, "--ckpt")
    assert loaded.model.linear_layer.out_features == 1


def told(refused: Callable[..., str], folder: Path, *more: Any, task: str = "sst2") -> str:
    """What an import says that is refused."""
    words = ("--experiment", "t", "--task", task, "--ptrain_ver", folder, "--max_seq_len", 24)
    return refused("import_teacher", *words, *more)


def spoil_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


def headless(folder: Path) -> None:
    transformers.AutoModel.from_config(tiny_config("roberta")).save_pretrained(folder)
    spoil_config(folder, architectures=None)


def not_a_number(folder: Path) -> None:
    model = tiny_classifier(tiny_config("roberta", **NAMES))
    model.classifier.out_proj.bias.data[0] = torch.nan
    model.save_pretrained(folder)


REFUSED: dict[str, tuple[Callable[[Path], object], tuple[Any, ...], str]] = {
    "no head": (headless, (), "classifier.dense.bias among them; run_fine_tune.py"),
    "no number": (not_a_number, (), "differ by nan"),
    "another head": (
        lambda folder: spoil_config(folder, architectures=["RobertaForTokenClassification"]), (),
        "it is a RobertaForTokenClassification, no classifier of sentences",
    ),
    "many labels": (
        lambda folder: spoil_config(folder, problem_type="multi_label_classification"), (),
        "its problem_type is multi_label_classification, that of sst2 is single_label_classification",
    ),
    "names": (
        lambda folder: spoil_config(folder, id2label={0: "cat", 1: "dog"}), (),
        "its classes are cat, dog, those of sst2 negative, positive",
    ),
    "another family": (lambda folder: None, ("--model", "bert"), "--model bert: it is of the architecture roberta"),
    "long": (lambda folder: None, ("--max_seq_len", 63), "--max_seq_len 63: the encoder has 62 positions"),
    "no tokenizer": (
        lambda folder: [file.unlink() for file in folder.glob("*token*")], (), "name one with --ptrain_ver",
    ),
}  # fmt: skip


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """Folder of a RoBERTa that knows the classes of SST-2."""
    return save_classifier("roberta", tmp_path / "theirs", **NAMES)


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_a_teacher_is_refused_and_leaves_nothing(what, data, classifier, refused):
    spoil, more, message = REFUSED[what]
    spoil(classifier)
    assert message in told(refused, classifier, *more)
    assert not data.run("t", model="roberta").exists()


def test_a_family_that_is_not_known_is_refused(data, tmp_path, refused):
    sizes = {name: SIZES[name] for name in SIZES if name != "vocab_size"}
    config = transformers.ModernBertConfig(**sizes, vocab_size=len(PIECES), pad_token_id=1, cls_token_id=0)
    folder = tmp_path / "modern"
    transformers.ModernBertForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer("roberta", folder)
    message = told(refused, folder)
    assert "a model of the family modernbert; known are bert, albert, roberta" in message and str(folder) in message


def test_a_slow_tokenizer_is_refused(data, classifier, refused, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr("fine_tune.data.tokens.AutoTokenizer.from_pretrained", lambda *_, **__: Slow())
    assert "has no fast version" in told(refused, classifier)


def test_an_import_replaces_a_run_only_if_asked(data, classifier, refused, run):
    words = ("--experiment", "t", "--task", "SST-2", "--ptrain_ver", classifier, "--max_seq_len", 24)
    run("import_teacher", *words, "--model", "roberta")
    before = (data.run("t", model="roberta") / "run.json").read_bytes()
    message = told(refused, classifier)
    assert "t_roberta_sst2 exists; choose another --experiment, or pass --overwrite" in message
    assert (data.run("t", model="roberta") / "run.json").read_bytes() == before
    inside = shutil.copytree(classifier, data.run("t", model="roberta") / "inside")
    assert "is in the folder that would be replaced" in told(refused, inside, "--overwrite")
    assert (inside / "config.json").is_file()
    run("import_teacher", *words, "--overwrite")
    assert data.config("t", model="roberta")["max_seq_len"] == 24


def test_the_training_rows_will_do_where_there_is_no_dev_split(data, classifier, run, refused):
    data.file("SST-2/dev.tsv").unlink()
    run("import_teacher", "--experiment", "t", "--task", "sst2", "--ptrain_ver", classifier, "--max_seq_len", 24)
    shutil.rmtree(data.file("SST-2"))
    assert "train.tsv is not there; get it with" in told(refused, classifier, "--overwrite")


# Whatever a stranger's folder holds.


CASES = {"fast": 12, "nightly": 5000}[os.environ.get("HYPOTHESIS_PROFILE", "fast")]
WHOLE = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
NEW = (
    "problem_type",
    "architectures",
    "id2label",
    "num_labels",
    "classifier_dropout",
    "hidden_act",
    "pooler_hidden_act",
)


@SLOW
@given(cases=st.data())
@settings(fuzz, max_examples=CASES)
def test_a_malformed_classifier_is_imported_or_refused_in_one_line(cases, house):
    """Files that are missing, damaged, another's; JSON with values of another kind. A refused one leaves nothing."""
    kind = cases.draw(st.sampled_from(sorted(TINY)))
    house.teacher(kind)
    folder = house.root / "spoilt"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(house.made[kind], folder)
    name = cases.draw(st.sampled_from(WHOLE))
    sound = (folder / name).read_bytes()
    how = cases.draw(st.sampled_from(("bytes", "layout", "value")))
    changed = True
    if how == "bytes":
        content = cases.draw(spoiled(sound))
        (folder / name).write_bytes(content)
        changed = content != sound
    elif how == "layout":
        SPOILT[cases.draw(st.sampled_from(sorted(SPOILT)))](folder / name)
    else:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        values[cases.draw(st.sampled_from(sorted({*values, *NEW})))] = cases.draw(ANY)
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    cfg = ImportConfig(experiment="spoilt", task="sst2", ptrain_ver=str(folder), max_seq_len=24, overwrite=True)
    try:
        read_or_refused(lambda: import_teacher(cfg, TASKS["sst2"], ["test"]), not changed)
    finally:
        left = list(house.root.glob("fine_tune_experiment/.spoilt*"))
        for run in house.root.glob("fine_tune_experiment/spoilt*"):
            assert (run / "model-0.pt").is_file()
            shutil.rmtree(run)
    assert not left
