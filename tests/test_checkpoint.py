"""Tests of the files of a run folder: the released layout, damaged files, atomic writing, listing."""

import json
import pickle
import shutil

import pytest
import torch
from torch import nn

from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.files import write_whole
from fine_tune.model.checkpoint import fill, list_checkpoints, load_state, pick_checkpoint, save_checkpoint
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder, student_encoder
from fine_tune.model.gate import GateChain, GateShape, HighwayGate
from fine_tune.model.load import load_run
from fine_tune.scores.predict import predict
from fine_tune.tasks.table import TASKS

STEP = 2105


def released_config(**changes):
    """The released keys of a teacher's config.json; a change to None removes the key."""
    values = {
        "accum_step": 1, "batch_size": 32, "beta1": 0.9, "beta2": 0.999, "ckpt_step": 1000, "dataset": "train",
        "device_id": 3, "dropout": 0.1, "eps": 1e-8, "experiment": "old", "log_step": 500, "lr": 3e-5, "max_norm": 1.0,
        "max_seq_len": 24, "model": "bert", "num_class": 2, "ptrain_ver": "bert-base-uncased", "seed": 42,
        "task": "sst2", "total_step": 6315, "warmup_step": 1894, "weight_decay": 0.01,
    }  # fmt: skip
    return {name: value for name, value in (values | changes).items() if value is not None}


STUDENT_KEYS = {
    "ptrain_ver": None, "d_emb": 128, "d_ff": 32, "d_model": 16, "num_attention_heads": 2, "num_hidden_layers": 2,
    "type_vocab_size": 2,
}  # fmt: skip
TEACHERS = {"device_id": {}, "amp, num_gpu": {"device_id": None, "amp": False, "num_gpu": 1}}
STUDENTS = {
    "plain": STUDENT_KEYS,
    "weights": STUDENT_KEYS | {"softmax_temp": 20.0, "soft_weight": 0.5, "hard_weight": 0.5, "hidden_mse_weight": 1000},
}


def write_run(data, model, config, experiment="old"):
    """Write a run folder as the released code leaves it."""
    folder = data.run(experiment)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    positions = torch.arange(model.encoder.config.max_position_embeddings).expand(1, -1)
    torch.save({"encoder.embeddings.position_ids": positions, **model.state_dict()}, folder / f"model-{STEP}.pt")
    return folder


@pytest.fixture
def old_teacher(encoder):
    """A classifier on the tiny BERT."""
    return Classifier(pretrained_encoder(encoder), 2, 0.1).eval()


@pytest.fixture
def old_student(old_teacher):
    """A student of 2 layers with 24 positions."""
    sizes = {"num_hidden_layers": 2, "max_position_embeddings": 24}
    return Classifier(student_encoder(old_teacher.encoder.config, sizes, 0.1), 2, 0.1).eval()


def assert_scored(data, model, tokenizer):
    """The scores and logits in the run folder are those of `model`."""
    rows = load_split(TASKS["sst2"], "dev", tokenizer, 24)
    logits = predict(model, rows, 3, torch.device("cpu"))
    lines = (data.run("old") / f"prediction_dev-{STEP}.tsv").read_text(encoding="utf-8").splitlines()
    written = [[float(cell) for cell in line.split("\t")[-2:]] for line in lines[1:]]
    torch.testing.assert_close(torch.tensor(written), logits, rtol=1e-5, atol=1e-6)
    accuracy = (logits.argmax(1).numpy() == rows.label).mean()
    assert data.config("old", name="eval_dev.json")["checkpoints"][str(STEP)]["accuracy"] == pytest.approx(accuracy)


@pytest.mark.slow
@pytest.mark.parametrize("changes", TEACHERS.values(), ids=TEACHERS)
def test_a_released_teacher_is_evaluated(data, run, encoder, old_teacher, changes):
    write_run(data, old_teacher, released_config(ptrain_ver=encoder, **changes))
    run("run_fine_tune_eval", "--experiment", "old", "--task", "sst2", "--device_id", -1)
    assert_scored(data, old_teacher, load_tokenizer(encoder))


@pytest.mark.parametrize("changes", STUDENTS.values(), ids=STUDENTS)
def test_a_released_student_is_evaluated(data, run, encoder, old_student, changes):
    folder = write_run(data, old_student, released_config(**changes))
    for layer in range(4):
        torch.save(HighwayGate(GateShape(16, 24)).state_dict(), folder / f"gate-{layer}-{STEP}.pt")
    run("run_fine_tune_eval", "--experiment", "old", "--task", "sst2", "--device_id", -1, "--ptrain_ver", encoder)
    assert_scored(data, old_student, load_tokenizer(encoder))


@pytest.mark.slow
def test_a_released_student_gets_test_predictions_with_the_tokenizer_that_was_named(data, run, encoder, old_student):
    write_run(data, old_student, released_config(**STUDENT_KEYS))
    ask = ("--experiment", "old", "--task", "sst2", "--device_id", -1, "--ptrain_ver", encoder)
    run("generate_test_prediction", *ask)
    first = (data.run("old") / "SST-2.tsv").read_text(encoding="utf-8")
    (data.run("old") / "SST-2.tsv").unlink()
    run("run_fine_tune_eval", *ask, "--do_predict")
    assert (data.run("old") / "SST-2.tsv").read_text(encoding="utf-8") == first


def test_a_released_teacher_whose_encoder_has_moved_is_found_by_ptrain_ver(data, run, encoder, old_teacher):
    write_run(data, old_teacher, released_config(ptrain_ver="/absent/encoder"))
    run("run_fine_tune_eval", "--experiment", "old", "--task", "sst2", "--device_id", -1, "--ptrain_ver", encoder)
    assert_scored(data, old_teacher, load_tokenizer(encoder))


def test_a_released_teacher_teaches(data, run, encoder, old_teacher):
    write_run(data, old_teacher, released_config(ptrain_ver=encoder))
    run(
        "run_lad_distil", "--teacher_exp", "old", "--tckpt", STEP, "--experiment", "new", "--task", "sst2",
        "--total_step", 1, "--device_id", -1,
    )  # fmt: skip
    assert list_checkpoints(data.run("new")) == [1]


def test_a_checkpoint_needs_no_pretrained_weights(data, encoder, old_teacher, tmp_path):
    """Tokenizer and architecture are enough."""
    bare = tmp_path / "bare"
    shutil.copytree(encoder, bare, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    write_run(data, old_teacher, released_config(ptrain_ver=str(bare)))
    loaded = load_run("old", "bert", TASKS["sst2"], None, None, "--ckpt")
    assert loaded.step == STEP and not loaded.model.training
    assert all(torch.equal(value, old_teacher.state_dict()[name]) for name, value in loaded.model.state_dict().items())


EVAL = ("run_fine_tune_eval", "--experiment", "old", "--task", "sst2", "--device_id", -1)


def test_missing_and_extra_keys_are_refused(data, refused, encoder, old_teacher):
    folder = write_run(data, old_teacher, released_config(ptrain_ver=encoder))
    file, state = folder / f"model-{STEP}.pt", old_teacher.state_dict()
    torch.save({name: value for name, value in state.items() if name != "linear_layer.bias"}, file)
    assert f"model-{STEP}.pt" in (message := refused(*EVAL)) and "linear_layer.bias" in message
    torch.save(state | {"extra.weight": torch.ones(1)}, file)
    assert f"model-{STEP}.pt" in (message := refused(*EVAL)) and "extra.weight" in message
    torch.save(state | {"linear_layer.bias": torch.ones(3)}, file)
    assert f"model-{STEP}.pt" in (message := refused(*EVAL)) and "linear_layer.bias" in message


def test_no_missing_embedding_goes_unnoticed_in_a_student(data, refused, encoder, old_student):
    folder = write_run(data, old_student, released_config(**STUDENT_KEYS))
    for gone in ("encoder.embeddings.word_embeddings.weight", "encoder.pooler.dense.bias"):
        torch.save(
            {name: value for name, value in old_student.state_dict().items() if name != gone}, folder / "model-1.pt"
        )
        (folder / f"model-{STEP}.pt").unlink(missing_ok=True)
        assert gone.split(".")[-2] in refused(*EVAL, "--ptrain_ver", encoder)


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self):
        return print, ("unpickled code ran",)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "object", "pickle", "list"])
def test_a_damaged_or_foreign_file_is_refused_and_never_executed(data, refused, encoder, old_teacher, damage, capsys):
    folder = write_run(data, old_teacher, released_config(ptrain_ver=encoder))
    file = folder / f"model-{STEP}.pt"
    content = file.read_bytes()
    if damage == "object":
        torch.save({"linear_layer.bias": Evil()}, file)
    elif damage == "list":
        torch.save([torch.ones(1)], file)
    else:
        broken = {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "text": b"hello",
            "pickle": pickle.dumps(Evil(), 2),
        }
        file.write_bytes(broken[damage])
    assert f"model-{STEP}.pt" in refused(*EVAL)
    assert "unpickled" not in capsys.readouterr().out


def test_an_exception_while_writing_leaves_the_old_file(tmp_path):
    file = tmp_path / "model-1.pt"
    file.write_text("old")

    def fail(part):
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(file, fail)
    assert file.read_text() == "old" and list_checkpoints(tmp_path) == [1]
    write_whole(file, lambda part: part.write_text("new"))
    assert file.read_text() == "new"


def test_a_crash_between_files_leaves_no_model_without_gates(tmp_path, monkeypatch):
    gates, saved = GateChain(GateShape(4, 3), 4, {0: 1, 1: 3}), torch.save
    calls = []

    def crash(value, file):
        calls.append(file)
        if len(calls) == 3:
            raise OSError("disk full")
        saved(value, file)

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, 5, {"model": nn.Linear(1, 1), **gates.saved()})
    assert list_checkpoints(tmp_path) == [] and (tmp_path / "gate-1-5.pt").is_file()


def test_gates_are_saved_by_their_zero_based_teacher_layer(tmp_path):
    gates = GateChain(GateShape(4, 3), 4, {0: 1, 1: 3})
    save_checkpoint(tmp_path, 5, {"model": nn.Linear(1, 1), **gates.saved()})
    assert {file.name for file in tmp_path.iterdir()} == {"model-5.pt", "gate-1-5.pt", "gate-2-5.pt", "gate-3-5.pt"}
    for layer, block in gates.blocks.items():
        fresh = HighwayGate(GateShape(4, 3))
        fill(fresh, load_state(tmp_path / f"gate-{layer}-5.pt"), tmp_path)
        assert all(torch.equal(value, block.state_dict()[name]) for name, value in fresh.state_dict().items())


def test_checkpoints_are_listed_by_number_and_picked_by_step(tmp_path):
    for name in ("model-10.pt", "model-9.pt", "model-100.pt", ".model-200.pt.part", "model-x.pt", "gate-1-300.pt"):
        (tmp_path / name).touch()
    assert list_checkpoints(tmp_path) == [9, 10, 100]
    assert (pick_checkpoint(tmp_path, None, "--ckpt"), pick_checkpoint(tmp_path, 9, "--ckpt")) == (100, 9)
    with pytest.raises(FileNotFoundError, match="--ckpt 11: .* has the checkpoints: 9, 10, 100"):
        pick_checkpoint(tmp_path, 11, "--ckpt")


def test_a_folder_without_checkpoints_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="has the checkpoints: none"):
        pick_checkpoint(tmp_path, None, "--ckpt")


@pytest.mark.slow
def test_the_best_and_the_last_checkpoint_are_kept_on_demand(data, run, teacher, refused):
    """And the others only where they were scored."""
    about = ("--task", "sst2", "--device_id", -1)
    run("run_lad_distil", "--experiment", "s", "--teacher_exp", "teacher", *about, "--total_step", 6, "--batch_size", 8,
        "--ckpt_step", 1, "--lr", 1e-2)  # fmt: skip
    assert "--keep_best f1: sst2 has loss, accuracy" in refused(
        "run_fine_tune_eval", "--experiment", "s", *about, "--keep_best", "f1"
    )
    run("run_fine_tune_eval", "--experiment", "s", *about, "--ckpt", 3, "--keep_best", "loss")
    best = data.config("s", name="eval_dev.json")["best"]["loss"][0][0]
    assert list_checkpoints(data.run("s")) == sorted({1, 2, best, 6})
    assert {int(file.stem.split("-")[-1]) for file in data.run("s").glob("gate-*.pt")} == {1, 2, best, 6}
