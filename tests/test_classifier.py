"""Tests of teacher and student models: the library's own forward pass, dropout everywhere, shapes read off a file."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertModel, AutoModel, BertConfig, BertModel

from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.model.classifier import Classifier
from fine_tune.model.copy_layers import init_student
from fine_tune.model.encoder import config_of_released, pretrained_encoder, student_encoder
from fine_tune.model.load import load_run
from fine_tune.tasks.table import TASKS


@pytest.fixture(params=["bert", "albert"])
def folder(request, encoder, albert):
    """Folder of an encoder of each architecture."""
    return {"bert": encoder, "albert": albert}[request.param]


@pytest.fixture
def inputs(data, encoder):
    """Eight pairs of different lengths."""
    data.write("qnli")
    inputs = load_split(TASKS["qnli"], "train", load_tokenizer(encoder), 24).inputs(np.arange(8))
    assert (inputs["attention_mask"] == 0).any()
    return inputs


def test_the_forward_pass_is_the_librarys_own(folder, inputs):
    """Given the (B, S) mask, the library builds its own one; the results on real tokens agree."""
    model, plain = Classifier(pretrained_encoder(folder), 3, 0.5).eval(), AutoModel.from_pretrained(folder).eval()
    got, want = model(**inputs), plain(**inputs, output_hidden_states=True)
    real = inputs["attention_mask"].bool()
    assert len(got.hidden_states) == model.num_layers == 4
    for one, other in zip(got.hidden_states, want.hidden_states[1:], strict=True):
        torch.testing.assert_close(one[real], other[real], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.logits, model.linear_layer(want.pooler_output), rtol=1e-4, atol=1e-5)


def test_logits_do_not_depend_on_padding(folder, inputs):
    model = Classifier(pretrained_encoder(folder), 3, 0.5).eval()
    wide = {key: nn.functional.pad(value, (0, 9), value=5 * (key == "input_ids")) for key, value in inputs.items()}
    torch.testing.assert_close(model(**wide).logits, model(**inputs).logits, rtol=1e-4, atol=1e-6)


def test_no_mask_is_a_mask_of_ones(folder, inputs):
    model = Classifier(pretrained_encoder(folder), 3, 0.5).eval()
    got, want = (model(**inputs | {"attention_mask": mask}) for mask in (None, torch.ones(inputs["input_ids"].shape)))
    torch.testing.assert_close(got.logits, want.logits, rtol=1e-5, atol=1e-6)
    for one, other in zip(got.hidden_states, want.hidden_states, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_dropout_is_set_everywhere(folder):
    """Also where an encoder's own configuration says otherwise."""
    model = Classifier(pretrained_encoder(folder, 0.375), 2, 0.375)
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.375}
    config = model.encoder.config
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.375


def test_a_student_has_the_given_sizes_and_otherwise_its_teachers(encoder):
    source = pretrained_encoder(encoder).config
    source.hidden_act = "relu"
    student = student_encoder(source, {"num_hidden_layers": 2, "intermediate_size": 8, "type_vocab_size": None}, 0.25)
    config = student.config
    assert (config.num_hidden_layers, config.intermediate_size, config.hidden_size) == (2, 8, 16)
    assert (config.hidden_act, config.type_vocab_size, config.vocab_size) == ("relu", 2, 60)


def test_the_shape_of_a_bert_is_read_off_its_checkpoint():
    sizes = {"vocab_size": 50, "hidden_size": 128, "num_hidden_layers": 11, "intermediate_size": 24}
    config = BertConfig(**sizes, num_attention_heads=2, max_position_embeddings=40, type_vocab_size=3)
    state = Classifier(BertModel(config), 2, 0.1).state_dict()
    for heads in ({}, {"num_attention_heads": None}, {"num_attention_heads": 2}):
        read = config_of_released(state, {"model": "bert", **heads})
        assert isinstance(read, BertConfig)
        assert {name: getattr(read, name) for name in sizes} == sizes
        assert (read.num_attention_heads, read.max_position_embeddings, read.type_vocab_size) == (2, 40, 3)


def test_the_shape_of_an_albert_is_read_off_its_checkpoint_but_for_the_number_of_its_layers():
    sizes = {"vocab_size": 50, "embedding_size": 8, "hidden_size": 128, "intermediate_size": 24}
    sizes |= {"max_position_embeddings": 40, "type_vocab_size": 3}
    config = AlbertConfig(**sizes, num_hidden_layers=5, num_attention_heads=2)
    state = Classifier(AlbertModel(config), 2, 0.1).state_dict()
    for heads in ({}, {"num_attention_heads": None}, {"num_attention_heads": 2}):
        read = config_of_released(state, {"model": "albert", "num_hidden_layers": 5, **heads})
        assert isinstance(read, AlbertConfig)
        assert {name: getattr(read, name) for name in sizes} == sizes
        assert (read.num_attention_heads, read.num_hidden_layers) == (2, 5)


RELEASED = {
    "experiment": "old", "task": "sst2", "num_class": 2, "max_seq_len": 24, "dropout": 0.1, "seed": 42, "d_emb": 8,
    "d_ff": 32, "d_model": 16, "num_attention_heads": 2, "num_hidden_layers": 4, "type_vocab_size": 2,
}  # fmt: skip


def write_student(data, kind, model, config):
    """Write a student's folder as the released code leaves it; a change to None removes the key."""
    folder = data.run("old", model=kind)
    folder.mkdir(parents=True, exist_ok=True)
    values = {name: value for name, value in (RELEASED | {"model": kind} | config).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    torch.save(model.state_dict(), folder / "model-7.pt")
    return folder


def test_a_released_albert_student_is_read(data, encoder, albert, inputs):
    """Its tokenizer is the one that is named, its architecture that of its weights."""
    model = Classifier(pretrained_encoder(albert), 2, 0.1).eval()
    write_student(data, "albert", model, {})
    loaded = load_run("old", "albert", TASKS["sst2"], None, encoder, "--ckpt")
    assert loaded.step == 7 and loaded.model.num_layers == 4 and not loaded.model.training
    state = model.state_dict()
    assert set(state) == set(loaded.model.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in loaded.model.state_dict().items())
    assert torch.equal(loaded.model(**inputs).logits, model(**inputs).logits)


ASK = ("run_fine_tune_eval", "--experiment", "old", "--task", "sst2", "--device_id", -1)


def test_a_released_albert_student_without_its_number_of_layers_is_refused(data, encoder, albert, refused):
    write_student(data, "albert", Classifier(pretrained_encoder(albert), 2, 0.1), {"num_hidden_layers": None})
    told = refused(*ASK, "--model", "albert", "--ptrain_ver", encoder)
    assert "an ALBERT's weights do not show how many layers it has: config.json lacks num_hidden_layers" in told


@pytest.mark.parametrize(
    ("kind", "of", "lacks"),
    [
        ("bert", "albert", "encoder.encoder.layer.0.intermediate.dense.bias"),
        ("albert", "bert", "encoder.encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm.weight"),
        ("bert", None, "encoder.embeddings.word_embeddings.weight"),
        ("albert", None, "encoder.embeddings.word_embeddings.weight"),
    ],
)
def test_a_checkpoint_of_neither_is_refused_by_the_first_weight_that_it_lacks(
    kind, of, lacks, data, encoder, albert, refused
):
    """Also one of the other architecture than the folder's name says."""
    source = {"bert": encoder, "albert": albert}.get(of)
    write_student(data, kind, Classifier(pretrained_encoder(source), 2, 0.1) if source else nn.Linear(3, 2), {})
    told = refused(*ASK, "--model", kind, "--ptrain_ver", encoder)
    assert told.endswith(f"no BERT or ALBERT: the checkpoint has no {lacks}")


@pytest.mark.parametrize("embeddings", [False, True])
def test_what_is_copied_is_told_and_the_rest_stays_random(encoder, embeddings):
    source = pretrained_encoder(encoder)
    student = student_encoder(source.config, {"num_hidden_layers": 2, "max_position_embeddings": 24}, 0.1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    origin = init_student(student, source, {0: 1, 1: 3}, embeddings)
    assert origin == {
        "embeddings": "copied" if embeddings else "random", "pooler": "copied", "layer 1": "copied from layer 2",
        "layer 2": "copied from layer 4",
    }  # fmt: skip
    kept = {name for name, value in student.state_dict().items() if torch.equal(value, before[name])}
    started = {name for name in kept if name.startswith("embeddings.word")}
    assert started == (set() if embeddings else {"embeddings.word_embeddings.weight"})
    assert torch.equal(student.pooler.dense.weight, source.pooler.dense.weight)
    assert torch.equal(student.encoder.layer[0].output.dense.weight, source.encoder.layer[1].output.dense.weight)


def test_sizes_that_cannot_be_copied_are_refused_by_name(encoder):
    source = pretrained_encoder(encoder)
    student = student_encoder(source.config, {"num_hidden_layers": 2, "intermediate_size": 8}, 0.1)
    with pytest.raises(ValueError, match="cannot copy layer 1: intermediate.dense.weight is .32, 16. .* but .8, 16."):
        init_student(student, source, {0: 1, 1: 3}, True)


def test_a_layer_that_the_source_lacks_is_refused_by_number(encoder):
    source = pretrained_encoder(encoder)
    student = student_encoder(source.config, {"num_hidden_layers": 2}, 0.1)
    with pytest.raises(ValueError, match="cannot copy layer 5: the source has 4"):
        init_student(student, source, {0: 1, 1: 4}, True)


def without(encoder: str, folder, *words: str) -> str:
    """Copy an encoder, leaving out the weights whose names hold one of `words`."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(encoder, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not any(word in name for word in words)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_an_encoder_without_a_pooler_starts_it_at_random_and_says_so(encoder, tmp_path, caplog):
    pretrained_encoder(without(encoder, tmp_path / "e", "pooler"))
    assert "no pooler" in caplog.text


def test_an_encoder_that_lacks_other_weights_is_refused(encoder, tmp_path):
    with pytest.raises(ValueError, match="missing.*layer.1"):
        pretrained_encoder(without(encoder, tmp_path / "e", "layer.1.output"))


def test_a_damaged_encoder_is_refused(encoder, tmp_path):
    folder = tmp_path / "e"
    shutil.copytree(encoder, folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="--ptrain_ver"):
        pretrained_encoder(str(folder))
