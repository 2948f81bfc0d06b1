"""The GloVe document's scripts on tiny rows: what they read and refuse, interrupted runs, labelling, augmented rows."""

import importlib.util
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import forks
import numpy as np
import pytest
import reference
import torch
from conftest import WORDS, call, sentence, write_task
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_fuzz import ANY, fuzz, read_or_refused, spoiled
from test_resume import interrupted
from transformers import AutoModel, BertTokenizerFast

from fine_tune.files import read_json
from fine_tune.flags.shared import Pace
from fine_tune.glove import epochs, score, start
from fine_tune.glove.artefacts import check_link, point
from fine_tune.glove.config import OF_NETWORK, read_config
from fine_tune.glove.encoded import read_features, read_ids
from fine_tune.glove.material import read_vectors_file, read_vocabulary
from fine_tune.glove.rows import read_labels, read_rows, targets
from fine_tune.glove.validation import Epoch, best_epoch, count_decays, is_over
from fine_tune.teacher import store
from fine_tune.teacher.live import LiveTeacher

SLOW = pytest.mark.slow
CONFIGS = {
    "cnn": {"num_filters": 4, "kernel_sizes": [2, 3, 9], "fc_hidden_size": 4},
    "densenet-dsa": {
        "densenet_kernels": [[1, 1], [3, 5]], "densenet_first_num_filters": 4, "densenet_num_filters": 3,
        "densenet_last_num_filters": 5, "dsa_num_attentions": 2, "dsa_dim": 4, "dsa_r": 2, "fc_hidden_size": 0,
    },
    "cls": {},
}  # fmt: skip
OF_WORDS = {
    "emb_class": "glove", "lowercase": True, "token_emb_dim": 8, "pad_token": "<pad>", "pad_token_id": 0,
    "unk_token": "<unk>", "unk_token_id": 1,
}  # fmt: skip
ROWS, OUT = "--data_dir=data", "--bert_output_dir=bert-checkpoint"
CNN, DSA, BERT = (("--config=configs/" + name + ".json", ROWS) for name in ("cnn", "densenet-dsa", "cls"))
PREPROCESS, TRAIN, EVALUATE = (f"glove_student.{name}" for name in ("preprocess", "train", "evaluate"))
QUICK = ("--device=cpu", "--batch_size=8", "--epoch=3", "--lr=0.01")
STUDENT = (TRAIN, *CNN, *QUICK, "--augmented", "--save_path=cnn.pt")
LABELLING = (EVALUATE, *BERT, OUT, "--device=cpu", "--batch_size=16", "--augmented")


def write_rows(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, first, count in (("train", 0, 40), ("valid", 200, 16), ("test", 300, 10)):
        lines = (f"{sentence(row)}\t{row % 2}\n" for row in range(first, first + count))
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="session")
def made(encoder, tmp_path_factory):
    """A folder in which all steps of the document are done but the student's training."""
    folder = tmp_path_factory.mktemp("glove")
    (folder / "configs").mkdir()
    for name, own in CONFIGS.items():
        family = {"emb_class": "bert"} if name == "cls" else OF_WORDS
        config = {"enc_class": name, "n_ctx": 16, "dropout": 0.1, **family, **own}
        (folder / "configs" / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    write_rows(folder / "data")
    numbers = np.random.default_rng(0).normal(size=(len(WORDS), 8)).round(3)
    lines = (f"{word} {' '.join(map(str, row))}\n" for word, row in zip(WORDS, numbers, strict=True))
    (folder / "vectors.txt").write_text("".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DATA_DIR", str(folder / "cached"))
        call(PREPROCESS, *BERT, f"--bert_model_name_or_path={encoder}")
        call(TRAIN, *BERT, f"--bert_model_name_or_path={encoder}", OUT, *QUICK, "--epoch=8", "--measure=accuracy")
        raw = ("--input", "data/train.txt", "--output", "data/augmented.raw", "--no_analyzer", "--n_iter", 2)
        call("glove_student.augment_data", *raw)
        call(PREPROCESS, *BERT, f"--bert_model_name_or_path={encoder}", "--augmented")
        call(*LABELLING)
        shutil.copyfile("data/augmented.raw.pred", "data/augmented.txt")
        for rows in ((), ("--augmented",)):
            call(PREPROCESS, *CNN, "--embedding_path=vectors.txt", *rows)
    shutil.rmtree(folder / "cached")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it, in which the test works."""
    shutil.copytree(made, tmp_path / "glove", symlinks=True)
    monkeypatch.chdir(tmp_path / "glove")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "cached"))
    return tmp_path / "glove"


# Readers


def test_rows_are_read_as_they_are(tmp_path):
    file = tmp_path / "rows.txt"
    file.write_bytes('\ufeff"a  B" \u2028 c\t0\r\none\x85two \t 1'.encode())
    assert read_rows(file).texts == [('"a  B" \u2028 c',), ("one\x85two ",)] and read_rows(file).labels == ["0", "1"]
    file.write_bytes(b"a\tb\tyes\nc\td\tno\n")
    assert read_rows(file).texts == [("a", "b"), ("c", "d")]


BAD_ROWS = [
    ("train", b"good\n", ":1: expected sentence<TAB>label, got 0 TABs"),
    ("train", b"good\t1\na\tb\tc\td\n", ":2: expected sentence<TAB>label, got 3 TABs"),
    ("train", b"good\t1\n \t0\n", ":2: the text is empty"),
    ("train", b"good\t1\nbad\t \n", ":2: the label is empty"),
    ("train", b"good\t1\na\tb\t0\n", ":2: 2 texts, but 1 in the rows before it"),
    ("train", b"good\t1\nfine\t1\nb\xe9d\t0\n", ":3: not UTF-8: invalid continuation byte; save the file as UTF-8"),
    ("train", b"good\t1\nfine\t1\n", ": every label is 1; a classifier needs two"),
    ("train", b"good\t0.5 1.5\n", ":1: logits; classes are named by gold labels"),
    ("train", b"", " is empty"),
    ("augmented", b"good\tdummy\n", ":1: unknown label 'dummy'; label.txt has 0, 1"),
    ("augmented", b"good\t0\nbad\t1.5 2.5\n", ":2: logits among gold labels; label.txt has 0, 1"),
    ("augmented", b"good\t1.5 2.5\nbad\t0\n", ":2: a gold label among logits, but label.txt has 2 labels"),
    ("augmented", b"good\t1.5 2.5 3\n", ":1: 3 logits, but label.txt has 2 labels"),
    ("augmented", b"good\t1.5 nan\n", ":1: logits that are not finite: 1.5 nan"),
    ("augmented", b"good\t1.5 x\n", ":1: '1.5 x' among logits"),
    ("augmented", b"good\tbad\t1 0\n", ": pairs of texts; networks on word vectors read single ones"),
]


@pytest.mark.parametrize(("name", "content", "told"), BAD_ROWS, ids=str)
def test_rows_that_cannot_be_used_are_refused(name, content, told, folder, refused):
    (folder / "data" / f"{name}.txt").write_bytes(content)
    flags = ("--embedding_path=vectors.txt", *["--augmented"] * (name == "augmented"))
    assert refused(PREPROCESS, *CNN, *flags) == f"data/{name}.txt{told}"


def spoil(folder: Path, name: str, old: str, new: str) -> None:
    file = folder / "data" / name
    text = file.read_text(encoding="utf-8")
    assert re.search(old, text)
    file.write_text(re.sub(old, new, text, count=1), encoding="utf-8")


BAD_STUDENT = [
    ("label.txt", r"\n1 1", "\n1 2", "data/label.txt:2: expected `label 1`, got '1 2'"),
    ("label.txt", r"1 1\n", "", "data/label.txt: 1 labels, 1 of them different; a classifier needs two"),
    ("vocab.txt", r"\[MASK\] 2", "[MASK] 3", "data/vocab.txt:3: expected a word and 2, got '[MASK] 3'; preprocess"),
    ("vocab.txt", r"\n[^\n]* (\d+)\n$", r"\n<pad> \1\n", "data/vocab.txt: a word is missing, or there twice"),
    ("vocab.txt", r"\n[^\n]*\n$", "\n", "data/embedding.npy: not the vectors of "),
    ("augmented.txt.ids", r" 0\n", "\n", "data/augmented.txt.ids:1: expected a label, a TAB and 16 ids, padding last"),
    ("augmented.txt.ids", r"\t", "\t0 ", "data/augmented.txt.ids:1: expected a label, a TAB and 16 ids, padding last"),
    ("augmented.txt.ids", r"\t\d+", "\t999", "data/augmented.txt.ids: id 999, but the vocabulary has ids up to "),
    ("augmented.txt.ids", r"\t\d+", "\tx", "data/augmented.txt.ids:1: invalid literal for int()"),
    ("augmented.txt.ids", r"\n\S+ ", "\n", "data/augmented.txt.ids:2: 1 numbers as label, 2 before it"),
    ("augmented.txt.ids", r"\n", " 1\n", "data/augmented.txt.ids:1: expected a label"),
    ("augmented.txt.ids", r"\t\d+", "\t1", "data/augmented.txt.ids: was not made with the vocabulary that is there"),
    ("valid.txt.ids", r"^\d", "7", "data/valid.txt.ids: labels must be class numbers up to 1"),
    ("valid.txt.ids", r"^(?s:.*)", "1 2 3\t" + " ".join(["3"] * 16), "data/valid.txt.ids: 3 logits a row, but there "),
    ("valid.txt.ids", r"^(?s:.*)", "nan 1\t" + " ".join(["3"] * 16), "data/valid.txt.ids: labels that are not finite"),
    ("valid.txt", r"^", "new ", "data/valid.txt.ids: was made from other rows than data/valid.txt has now"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "told"), BAD_STUDENT, ids=str)
def test_encoded_rows_that_cannot_be_used_are_refused(name, old, new, told, folder, refused):
    spoil(folder, name, old, new)
    assert refused(*STUDENT).startswith(told)
    assert not (folder / "cnn.runs").exists()


def test_other_vectors_make_the_ids_stale(folder, refused, run):
    (folder / "data" / "embedding.npy").write_bytes(b"\x93NUMPY")
    assert refused(*STUDENT).startswith("data/embedding.npy: no array of vectors (")
    spoil(folder, "../vectors.txt", r"\n(\S+) \S+", r"\n\1 7")
    run(PREPROCESS, *CNN, "--embedding_path=vectors.txt")
    told = refused(*STUDENT)
    assert told == "data/augmented.txt.ids: was not made with the vocabulary that is there now; preprocess anew"


def test_the_word_that_names_padding_is_unknown(folder, run):
    spoil(folder, "train.txt", "^", "<pad> [MASK] <mask> <unk> ")
    run(PREPROCESS, *CNN, "--embedding_path=vectors.txt")
    assert (folder / "data" / "train.txt.ids").read_text(encoding="utf-8").startswith("0\t1 2 2 1 ")
    arrays = read_ids(folder / "data" / "train.txt.ids", 2, 999, 16)
    lengths = [min(16, len(text.split())) for (text,) in read_rows(folder / "data" / "train.txt").texts]
    assert np.diff(arrays["offsets"]).tolist() == lengths


@SLOW
def test_features_of_something_else_are_refused(folder, refused, run, encoder):
    scored = (EVALUATE, *BERT, OUT, "--device=cpu")
    features = folder / "data" / "test.txt.bert.fs"
    sound = features.read_bytes()
    features.write_bytes(sound[: len(sound) // 2])
    assert re.fullmatch(r"data/test.txt.bert.fs: damaged \(.*\); make it anew with: python .*", refused(*scored))
    features.write_bytes(sound)
    spoil(folder, "test.txt", "^", "new ")
    assert "data/test.txt.bert.fs: was made with rows " in refused(*scored)
    run(PREPROCESS, *BERT, f"--bert_model_name_or_path={encoder}")
    run(*scored)
    spoil(folder, "../configs/cls.json", "16", "12")
    assert "data/test.txt.bert.fs: was made with n_ctx 16, needed is 12; make it anew with: " in refused(*scored)
    other = shutil.copytree(encoder, folder / "bert")  # of the same name, with other tokens
    BertTokenizerFast.from_pretrained(encoder, do_lower_case=False).save_pretrained(other)
    spoil(folder, "../configs/cls.json", "12", "16")
    told = refused(TRAIN, *BERT, f"--bert_model_name_or_path={other}", OUT)
    assert told.startswith("data/train.txt.bert.fs: was made with tokenizer ")
    raw = ("--augmented", "--augmented_filename=augmented.raw")
    told = refused(TRAIN, *BERT, f"--bert_model_name_or_path={encoder}", *raw)
    assert told == "data/augmented.raw: its rows have no labels; evaluate.py --augmented makes some"


BAD_CONFIGS = [
    ("cnn", "n_ctx", None, "missing keys: n_ctx"), ("cnn", "kernel_sizes", None, "missing keys: kernel_sizes"),
    ("cls", "num_filters", 3, "unknown keys for cls: num_filters"),
    ("cnn", "emb_class", "bert", "emb_class bert does not go with enc_class cnn"),
    ("cls", "emb_class", "glove", "emb_class glove does not go with enc_class cls"),
    ("cnn", "dropout", 1.0, "dropout must be a number in [0, 1), got 1.0"),
    ("cnn", "n_ctx", True, "n_ctx must be a positive integer, got True"),
    ("cnn", "kernel_sizes", [3, 0], "kernel_sizes must be a list of positive integers, got [3, 0]"),
    ("cnn", "lowercase", 1, "lowercase must be true or false, got 1"),
    ("cnn", "pad_token_id", 1, "pad_token_id must be 0, got 1"),
    ("densenet-dsa", "densenet_kernels", [[1, 2]], "densenet_kernels must be rows, of one length, of odd positive "),
    ("densenet-dsa", "densenet_kernels", [[1], [1, 3]], "densenet_kernels must be rows, of one length, of odd positi"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "key", "value", "told"), BAD_CONFIGS, ids=str)
def test_configurations_that_cannot_be_used_are_refused(name, key, value, told, made, tmp_path, refused):
    values = read_json(made / "configs" / f"{name}.json") | {key: value}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}), encoding="utf-8")
    assert refused(PREPROCESS, f"--config={file}").startswith(f"{file}: {told}")


FAST, REST = ["a.txt", "a.ids"], ["label.txt", "a.fs", "vocab.txt", "embedding.npy", "cnn.json"]


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=SLOW) for name in REST)])
@given(cases=st.data())
@fuzz
def test_damaged_files_are_read_or_refused(name, cases, made, tmp_path):
    data, about = made / "data", torch.load(made / "data" / "test.txt.bert.fs", weights_only=True)["about"]

    text = data / cases.draw(st.sampled_from(["test.txt", "augmented.txt"]))
    words = len(np.load(data / "embedding.npy"))
    sources: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "a.txt": (text, lambda file: targets(file, read_rows(file).labels, ["0", "1"])),
        "label.txt": (data / "label.txt", read_labels),
        "a.ids": (data / "test.txt.ids", lambda file: read_ids(file, 2, 99, 16)),
        "a.fs": (data / "test.txt.bert.fs", lambda file: read_features(file, about, "preprocess")),
        "vocab.txt": (data / "vocab.txt", read_vocabulary),
        "embedding.npy": (data / "embedding.npy", lambda file: read_vectors_file(file, words)),
        "cnn.json": (made / "configs" / "cnn.json", read_config),
    }
    source, read = sources[name]
    sound = source.read_bytes()[:2000] if name == "a.txt" else source.read_bytes()
    content = cases.draw(spoiled(sound))
    if name == "cnn.json" and cases.draw(st.booleans()):
        values = json.loads(sound)
        values[cases.draw(st.sampled_from([*values, *OF_NETWORK["densenet-dsa"]]))] = cases.draw(ANY)
        content = json.dumps(values).encode()
    (tmp_path / name).write_bytes(content)
    read_or_refused(lambda: read(tmp_path / name), content == source.read_bytes())


# What the epochs so far decide


def losses(*values: float) -> list[Epoch]:
    return [Epoch(value, -value) for value in values]


@pytest.mark.parametrize("measure", ["loss", "accuracy"])
def test_the_first_of_the_best_counts_and_patience_is_exceeded(measure):
    assert best_epoch(losses(3, 1, 2, 1), measure) == 1  # a tie is no progress
    assert not is_over([], measure, 0) and not is_over(losses(1), measure, 0) and is_over(losses(1, 1), measure, 0)
    assert not is_over(losses(3, 1, 2, 1, 2), measure, 3) and is_over(losses(3, 1, 2, 1, 2), measure, 2)


@pytest.mark.parametrize(("values", "warmup_epoch", "steps", "decays"), [
    ((3, 2, 1), 0, 2, 0),
    ((1, 2), 0, 1, 1),  # epoch 1 is no better than epoch 0
    ((1, 2), 1, 1, 0),  # too early
    ((1, 2, 2), 1, 1, 1),
    ((1, 2, 2), 0, 2, 1),  # two in a row
    ((1, 3, 2), 0, 2, 0),  # better than the one before it
    ((1, 3, 2, 2.5, 2.4), 0, 2, 1),  # but three epochs without a new best
    ((1, 2, 2, 2, 2, 2, 2), 0, 2, 3),  # counted anew after each
    ((1, 2, 3), 0, 0, 2),
    ((), 0, 0, 0),
])  # fmt: skip
def test_learning_rates_fall_where_there_is_no_progress(values, warmup_epoch, steps, decays):
    assert count_decays(losses(*values), "loss", warmup_epoch, steps) == decays
    assert count_decays(losses(*values), "accuracy", warmup_epoch, steps) == decays


def test_a_file_of_the_users_own_is_never_replaced_and_a_link_is(tmp_path):
    target, other, own = tmp_path / "a.pt", tmp_path / "b" / "c", tmp_path / "mine.pt"
    for file in (target, own):
        file.write_text(file.name)
    point(other, target)
    point(other, own)
    assert other.is_symlink() and other.read_text() == "mine.pt" and not os.readlink(other).startswith("/")
    other.unlink()
    other.symlink_to("nowhere")
    point(other, target)
    assert other.read_text() == "a.pt" and [path.name for path in other.parent.iterdir()] == ["c"]
    for taken in (own, tmp_path):
        with pytest.raises(FileExistsError, match="was not made by this script"):
            check_link(taken)
        with pytest.raises(FileExistsError):
            point(taken, target)


# train.py


def pace(monkeypatch, **every: int) -> None:
    """Have states and log entries made more often."""
    monkeypatch.setattr(start, "Pace", lambda **given: Pace(**given | every))


def curves(log: str) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard has of every epoch."""
    (board,) = Path(log).iterdir()
    found = EventAccumulator(str(board))
    found.Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in epochs.SCALARS}


def left(name: str) -> tuple[bytes, dict[str, torch.Tensor], dict[str, object], set[str]]:
    """What a student's run left: its log, its best model, the epochs, the names of its files."""
    (run,) = Path(f"{name}.runs").glob("*/run")
    files = {path.name for path in run.iterdir()}
    (best,) = run.glob("*.pt")
    assert best.samefile(f"{name}.pt") and read_json(run / "run.json")["end"]
    return (run / "metrics.jsonl").read_bytes(), torch.load(best, weights_only=True), curves(f"log/{name}"), files


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def on_call(patch: pytest.MonkeyPatch, place: object, name: str, number: int, what: Callable[[], None]) -> None:
    """Have something happen before a call, counted from 1."""
    plain, calls = getattr(place, name), []

    def watched(*args, **words):
        calls.append(name)
        if len(calls) == number:
            what()
        return plain(*args, **words)

    patch.setattr(place, name, watched)


KILLS = {"finish": epochs.Epochs, "predict": epochs, "save_checkpoint": epochs, "drop_checkpoints": epochs}


def test_a_killed_and_a_stopped_run_end_as_an_uncut_one(folder, run, monkeypatch, tmp_path):
    """Stopped in the middle of an epoch and in a validation; killed before, in and after validations."""
    pace(monkeypatch, state_step=4, log_step=3)
    words = (*STUDENT[1:-1], "--batch_size=16", "--lr=0.02")
    run(TRAIN, *words, "--save_path=whole.pt", "--log_dir=log/whole")
    cut = (*words, "--save_path=cut.pt", "--log_dir=log/cut")

    def stopped(place: object, name: str, number: int) -> None:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            on_call(patch, place, name, number, lambda: os.kill(os.getpid(), signal.SIGTERM))
            run(TRAIN, *cut)
        assert end.value.code == 128 + signal.SIGTERM

    stopped(epochs.Epochs, "__call__", 1)
    for name, place in KILLS.items():
        with monkeypatch.context() as patch:
            on_call(patch, place, name, 1 + (name == "drop_checkpoints"), kill)  # that one after the second epoch
            assert forks.finish(forks.start(tmp_path / "cached", tmp_path / "said", TRAIN, *cut)) == [-9]
    stopped(epochs, "predict", 1)
    run(TRAIN, *cut)
    (log, best, told, files), (log_, best_, told_, files_) = left("whole"), left("cut")
    assert log == log_ and log.count(b"\n") > 3 and files == files_
    assert list(best) == list(best_) and all(torch.equal(weights, best_[name]) for name, weights in best.items())
    assert told == told_ and [len(curve) for curve in told.values()] == [3] * 3


@pytest.mark.slow
def test_a_complete_run_trains_nothing_and_other_flags_make_another_beside_it(folder, run, monkeypatch, capsys):
    run(*STUDENT)
    first = Path("cnn.pt").resolve()
    run(*STUDENT, "--seed=7")
    second = Path("cnn.pt").resolve()
    assert first != second and first.is_file() and first.parent.parent.parent == second.parent.parent.parent
    before = first.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("fine_tune.train.epochs.train_epochs", None)
        capsys.readouterr()
        run(*STUDENT, "--log_dir=elsewhere")
        assert Path("cnn.pt").resolve() == first and "already trained" in capsys.readouterr().out
    run(*STUDENT, "--overwrite")
    assert Path("cnn.pt").resolve() == first and first.read_bytes() == before
    run(*STUDENT, "--save_path=student")  # a name without a dot is the model, too
    assert Path("student").is_file() and torch.load("student", weights_only=True)


@SLOW
def test_an_interrupted_run_goes_on_whatever_has_no_bearing_on_it(folder, run, monkeypatch):
    for flags in (("--overwrite",), ("--log_dir=other", "--eval_batch_size=3")):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            interrupted(patch, "step", 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
            run(*STUDENT, *flags)
    run(*STUDENT)
    (about,) = Path("cnn.runs").glob("*/run/run.json")
    assert len(read_json(about)["resumed"]) == 2


def test_a_users_own_file_stops_training_before_it_begins(folder, refused):
    Path("cnn.pt").write_text("mine")
    assert "cnn.pt is there and was not made by this script" in refused(*STUDENT)
    assert Path("cnn.pt").read_text() == "mine" and not Path("cnn.runs").exists()


def logged(name: str) -> list[dict[str, float]]:
    (file,) = Path(f"{name}.runs").glob("*/run/metrics.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_without_progress_rates_fall_and_training_ends(folder, run, monkeypatch):
    """Epoch 1 is the best; after epochs 3 and 4 the rate falls, for all updates of the next; after 4 more: the end."""
    pace(monkeypatch, log_step=1)
    monkeypatch.setattr(start, "validate", lambda *_: Epoch(1.0, 0.5))
    flags = ("--epoch=9", "--patience=3", "--lr_decay_rate=0.5", "--lr_decay_steps=1", "--warmup_epoch=1")
    run(TRAIN, *CNN, *QUICK, *flags, "--save_path=a.pt", "--log_dir=log/a")
    rates = [0.01, 0.01, 0.01, 0.005, 0.0025]
    assert [value for _, value in curves("log/a")["LearningRate/train"]] == pytest.approx(rates)
    assert [entry["lr"] for entry in logged("a")] == pytest.approx([rate for rate in rates for _ in range(5)])
    assert Path("a.pt").resolve().name == "model-5.pt"
    pace(monkeypatch, log_step=7)
    run(TRAIN, *CNN, *QUICK, *flags, "--save_path=b.pt")
    assert [entry["step"] for entry in logged("b")] == [7, 14, 21, 25]  # the last is of what was left


def test_the_other_optimiser_warms_up_and_decays(folder, run, monkeypatch):
    pace(monkeypatch, log_step=1)
    run(TRAIN, *CNN, *QUICK, "--use_transformers_optimizer", "--warmup_epoch=1", "--save_path=b.pt")
    want = [reference.learning_rate(step, 0.01, 5, 15) for step in range(15)]
    assert [entry["lr"] for entry in logged("b")] == pytest.approx(want)


def test_a_loss_that_is_not_finite_ends_training(folder, run):
    with pytest.raises(SystemExit, match="update .*: loss or gradient is not finite"):
        run(*STUDENT, "--lr=1e30")
    assert not list(Path("cnn.runs").glob("*/run/model-*.pt")) and not Path("cnn.pt").exists()


def best(name: str) -> dict[str, torch.Tensor]:
    return torch.load(f"{name}.pt", weights_only=True)


@SLOW
def test_word_vectors_learn_only_if_asked_and_padding_never(folder, run):
    vectors = torch.from_numpy(np.load("data/embedding.npy"))
    for name, flags in {"fixed": (), "free": ("--embedding_trainable",)}.items():
        run(*STUDENT[:-1], f"--save_path={name}.pt", *flags)
        words = best(name)["encoder.words.weight"]
        assert torch.equal(words, vectors) == (name == "fixed") and not words[0].any()


@SLOW
def test_accumulated_batches_are_one(folder, run):
    spoil(folder, "../configs/cnn.json", r'"dropout": 0.1', '"dropout": 0')
    run(*STUDENT[:-1], "--save_path=one.pt", "--epoch=1")
    run(*STUDENT[:-1], "--save_path=two.pt", "--epoch=1", "--batch_size=4", "--gradient_accumulation_steps=2")
    for name, weights in best("one").items():
        torch.testing.assert_close(best("two")[name], weights, rtol=1e-3, atol=1e-4)
    run(*STUDENT[:-1], "--save_path=less.pt", "--epoch=1", "--batch_size=4")
    assert not torch.allclose(best("less")["linear_layer.weight"], best("one")["linear_layer.weight"], atol=1e-3)


@SLOW
def test_layers_are_removed_and_a_frozen_encoder_stays(folder, run, refused, encoder):
    words = (TRAIN, *BERT, f"--bert_model_name_or_path={encoder}", *QUICK, "--epoch=1", "--save_path=bert.pt", OUT)
    for layers in ("4", "0,1,2,3", "a", "-1"):
        told = refused(*words, f"--bert_remove_layers={layers}")
        assert told == f"--bert_remove_layers {layers}: give some of the 0-based layers 0..3"
    run(*words, "--bert_remove_layers=0,2", "--bert_use_feature_based")
    own, there = best("bert"), torch.load("bert-checkpoint/bert/run/" + Path("bert.pt").resolve().name)
    assert torch.equal(own["linear_layer.weight"], there["linear_layer.weight"])
    given, made = AutoModel.from_pretrained(encoder), AutoModel.from_pretrained("bert-checkpoint/bert")
    assert made.config.num_hidden_layers == 2
    for new, old in ((0, 1), (1, 3)):
        for name, weights in given.encoder.layer[old].state_dict().items():
            assert torch.equal(made.encoder.layer[new].state_dict()[name], weights)
            assert torch.equal(own[f"encoder.encoder.layer.{new}.{name}"], weights)
    assert own["linear_layer.bias"].any()


# evaluate.py


@pytest.fixture
def student(folder, run):
    run(*STUDENT, "--epoch=2")
    return (EVALUATE, *CNN, "--device=cpu", "--model_path=cnn.pt")


def predicted(name: str = "test.txt.pred") -> list[list[str]]:
    return [line.split("\t") for line in Path("data", name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--batch_size=7",), ("--enable_inference",)])
def test_predictions_do_not_depend_on_batches(flags, student, run, folder):
    run(*student)
    alone = predicted()
    assert {row[2] for row in alone} == {"0", "1"}
    assert [row[:2] for row in alone] == [line.split("\t") for line in Path("data/test.txt").read_text().splitlines()]
    written = "test.txt.inference" if "--enable_inference" in flags else "test.txt.pred"
    run(*student, *flags)
    assert predicted(written) == alone
    run(*student, *flags, "--num_examples=3")
    assert predicted(written) == alone[:3]


@pytest.mark.filterwarnings("ignore")
def test_linear_layers_are_quantised(student, run, folder, monkeypatch):
    seen, plain = [], score.open_model
    monkeypatch.setattr(score, "open_model", lambda *args: seen.append(plain(*args)) or seen[-1])
    run(*student, "--enable_dqm", "--batch_size=4")
    assert len(predicted()) == 10
    kinds = [type(module).__module__ for module in seen[0].model.modules()]
    assert sum("quantized" in kind for kind in kinds) >= 5


BAD_FLAGS = [
    (CNN, ("--augmented",), "--augmented: a transformer labels augmented rows; --config is of a network on word"),
    (CNN, ("--hard_labeling",), "--hard_labeling and --entropy_threshold are for --augmented rows"),
    (CNN, ("--enable_dqm", "--enable_ort"), "--enable_dqm quantises torch's model, --enable_ort runs ONNX's"),
    (BERT, (OUT, "--augmented", "--enable_dqm"), "--enable_dqm, --enable_ort and --enable_inference are for test.txt"),
    (CNN, ("--model_path=no.pt",), "--model_path no.pt: is not there; train.py --save_path=no.pt makes it"),
    (CNN, ("--model_path=data/test.txt",), "data/test.txt: not a readable checkpoint"),
    (CNN, (), "--model_path pytorch-model.pt: no network on word vectors; is --config configs/cnn.json right?"),
    (DSA, ("--model_path=cnn.pt",), "cnn.pt"),
    (BERT, ("--bert_output_dir=data",), "--bert_output_dir data: no fine-tuned bert (it has "),
]  # fmt: skip


@SLOW
def test_what_cannot_be_scored_is_refused(student, folder, refused):
    for config, flags, told in BAD_FLAGS:
        assert told in refused(EVALUATE, *config, "--device=cpu", *flags)
    spoil(folder, "label.txt", r"1 1\n", "1 1\n2 2\n")
    assert "cnn.pt does not fit its config.json" in refused(*student)


def test_labels_are_logits_or_classes_of_those_that_are_sure(folder, run):
    soft = predicted("augmented.raw.pred")
    logits = np.array([row[1].split(" ") for row in soft], float)
    assert [row[:1] for row in soft] == [row[:1] for row in predicted("augmented.raw")]
    shares = reference.softmax(logits)
    bits = -(shares * np.log2(shares)).sum(1)
    some = np.sort(bits)[20:60]
    limit = float(some[np.diff(some).argmax() :][:2].mean())  # logits are rounded: far from every row
    run(*LABELLING, "--hard_labeling", f"--entropy_threshold={limit}")
    hard = predicted("augmented.raw.pred")
    assert hard == [[soft[row][0], str(logits[row].argmax())] for row in np.flatnonzero(bits <= limit)]
    assert 0 < len(hard) < len(soft)
    run(*LABELLING, "--num_examples=3")
    assert predicted("augmented.raw.pred") == soft[:3]


def test_labelling_that_was_killed_goes_on(folder, run, monkeypatch, tmp_path):
    sound, read = Path("data/augmented.raw.bert.pred").read_bytes(), []
    Path("data/augmented.raw.bert.pred").unlink()
    monkeypatch.setattr(store, "SECONDS", 0.0)
    with monkeypatch.context() as patch:
        on_call(patch, LiveTeacher, "run", 5, kill)
        assert forks.finish(forks.start(tmp_path / "cached", tmp_path / "said", *LABELLING)) == [-9]
    (done,) = (tmp_path / "cached").rglob(store.DONE)
    before = read_json(done)["rows"]
    plain = LiveTeacher.run
    monkeypatch.setattr(LiveTeacher, "run", lambda self, inputs: read.append(inputs) or plain(self, inputs))
    run(*LABELLING)
    assert Path("data/augmented.raw.bert.pred").read_bytes() == sound
    assert before > 0 and len(read) > 4


@SLOW
def test_other_weights_label_anew(folder, run):
    """The cache of what a teacher says is of its weights, those of `--model_path`, too."""
    sound = predicted("augmented.raw.pred")
    run(*LABELLING)
    state = torch.load("pytorch-model.pt", weights_only=True)
    torch.save(state | {"linear_layer.bias": state["linear_layer.bias"] + 3}, "other.pt")
    run(*LABELLING, "--model_path=other.pt")
    moved = [[float(word) + 3 for word in row[1].split(" ")] for row in sound]
    got = [[float(word) for word in row[1].split(" ")] for row in predicted("augmented.raw.pred")]
    assert np.abs(np.array(got) - moved).max() < 1e-4


@SLOW
def test_classes_in_another_order_are_matched_by_name(folder, run, encoder, refused):
    """Others are refused."""
    run(EVALUATE, *BERT, OUT, "--device=cpu")
    before, soft = predicted(), predicted("augmented.raw.pred")
    lines = Path("data/train.txt").read_text(encoding="utf-8").splitlines()
    Path("data/train.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n", encoding="utf-8")
    run(PREPROCESS, *BERT, f"--bert_model_name_or_path={encoder}", "--augmented")
    assert Path("data/label.txt").read_text() == "1 0\n0 1\n"
    run(EVALUATE, *BERT, OUT, "--device=cpu")
    assert predicted() == before
    run(*LABELLING)
    assert predicted("augmented.raw.pred") == [[text, " ".join(said.split(" ")[::-1])] for text, said in soft]
    Path("data/label.txt").write_text("no 0\n1 1\n", encoding="utf-8")
    told = refused(EVALUATE, *BERT, OUT)
    assert told == "--bert_output_dir bert-checkpoint: its classes are 0, 1, the rows' no, 1"


@SLOW
def test_a_run_of_this_project_is_a_teacher(folder, run, tuned):
    teacher = tuned / "fine_tune_experiment" / "teacher_bert_sst2"
    run(PREPROCESS, *BERT, f"--bert_model_name_or_path={teacher}", "--augmented")
    run(*LABELLING, f"--bert_output_dir={teacher}")
    labelled = predicted(f"augmented.raw.{teacher.name}.pred")
    assert labelled == predicted("augmented.raw.pred") and len(labelled) == len(predicted("augmented.raw"))
    run(EVALUATE, *BERT, f"--bert_output_dir={teacher}", "--device=cpu")
    assert len(predicted()) == 10


MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]


@SLOW
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize("model", ["cnn", "densenet-dsa", "bert"])
def test_onnx_predicts_the_same(model, folder, run):
    if model == "bert":
        words = (EVALUATE, *BERT, OUT, "--device=cpu")
    else:
        config = CNN if model == "cnn" else DSA
        run(TRAIN, *config, *QUICK, "--augmented", "--save_path=student.pt")
        words = (EVALUATE, *config, "--device=cpu", "--model_path=student.pt")
    run(*words)
    plain = predicted()
    run(*words, "--convert_onnx", "--onnx_path=model.onnx")
    for size in (1, 3):
        run(*words, "--enable_ort", "--onnx_path=model.onnx", f"--batch_size={size}")
        assert predicted() == plain
    run(*words, "--enable_ort", "--onnx_path=model.onnx", "--enable_inference")
    assert predicted("test.txt.inference") == plain


@pytest.mark.skipif(not MISSING, reason="all of ONNX is installed")
def test_without_onnx_it_says_what_to_install(student, folder, refused):
    told = refused(*student, "--convert_onnx" if {"onnx", "onnxscript"} & {*MISSING} else "--enable_ort")
    assert told.endswith("pip install -r requirements-export.txt")


# Augmented rows in the project's own runs


SHORT = "--device_id -1 --batch_size 8 --total_step 6 --warmup_step 1 --log_step 2 --state_step 2".split()


@pytest.fixture
def augmented(data, teacher, run):
    """SST-2 with augmented rows and a teacher; flags of a short run on them."""
    run("build_augmented", "--task", "sst2", "--analyzer", "none", "--n_iter", 1)
    return ("--task", "sst2", "--dataset", "augmented", "--teacher_exp", "teacher", *SHORT)


def glove_flags(made: Path) -> tuple[object, ...]:
    return ("--model", "glove-cnn", "--config", made / "configs/cnn.json", "--embedding_path", made / "vectors.txt")


STUDENTS = {
    "run_glove_distil": (), "run_lad_distil": ("--hard_weight", 0), "run_pkd_distill": ("--hard_weight", 0),
    "run_kd_distil": ("--hard_weight", 0, "--soft_weight", 1),
}  # fmt: skip


@pytest.mark.parametrize("script", [name if "glove" in name else pytest.param(name, marks=SLOW) for name in STUDENTS])
def test_students_learn_from_augmented_rows_and_go_on(script, data, run, augmented, made, monkeypatch):
    words = (*augmented, *STUDENTS[script], *(glove_flags(made) if "glove" in script else ()))
    run(script, "--experiment", "whole", *words)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupted(patch, "step", 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run(script, "--experiment", "cut", *words, "--resume")
    run(script, "--experiment", "cut", *words, "--resume")
    kind = "glove-cnn" if "glove" in script else "bert"
    one, two = (data.run(name, model=kind) for name in ("whole", "cut"))
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    states = [torch.load(folder / "model-6.pt", weights_only=True) for folder in (one, two)]
    assert all(torch.equal(weights, states[1][name]) for name, weights in states[0].items())
    entries = [json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()]
    assert all(entry["hard_loss"] == 0 and entry["loss"] > 0 for entry in entries)


NO_GOLD = "--dataset augmented: its rows have no gold labels"


@SLOW
def test_what_cannot_learn_from_augmented_rows_is_refused(data, augmented, made, refused):
    base, own = ("--experiment", "x", *augmented), glove_flags(made)
    assert refused("run_kd_distil", *base) == f"{NO_GOLD}; give --hard_weight 0"
    assert refused("run_glove_distil", *base, *own, "--hard_weight", 1) == f"{NO_GOLD}; give --hard_weight 0"
    assert refused("run_student_fine_tune", *base) == f"{NO_GOLD}, which fine_tune learns"
    suite = "--suite s --task sst2 --teacher_exp teacher --seeds 1 --methods kd --select_on train_select".split()
    told = refused("run_suite", *suite, "--set", "kd.dataset=augmented", "--set", "hard_weight=0")
    assert told == "row kd: copies of all training rows, train_select's too: choose nothing there"
    (data.file("SST-2") / "augmented.tsv").unlink()
    told = refused("run_glove_distil", *base, *own)
    assert told.endswith("augmented.tsv is not there; make it with: python build_augmented.py --task sst2")
    write_task(data.root, "mrpc")
    told = refused("build_augmented", "--task", "mrpc", "--analyzer", "none")
    assert told == "--task mrpc: pairs of texts; only tasks of single ones are augmented"
    told = refused("run_glove_distil", *base, *own, "--task", "mrpc", "--dataset", "train")
    assert told == "--task mrpc: pairs of texts; networks on word vectors read single ones"


@SLOW
def test_a_bert_and_a_network_stand_in_one_table(data, run, augmented, made, capsys):
    run("run_glove_distil", "--experiment", "words", *augmented, *glove_flags(made))
    capsys.readouterr()
    run("compare_runs", "--task", "sst2", "--experiment", "teacher", "words", "--device_id", -1, "--sentences", 4)
    table = capsys.readouterr().out
    assert re.search(r"^\| *teacher .*1\.00x \|$", table, re.M) and re.search(r"^\| *words .*x \|$", table, re.M)


def test_rows_to_score_that_are_trained_on_are_refused(folder, refused):
    """And so are vectors of another language."""
    train = (folder / "data" / "train.txt").read_text(encoding="utf-8").splitlines()
    (folder / "data" / "valid.txt").write_text("\n".join(train[:4]) + "\n", encoding="utf-8")
    assert refused(PREPROCESS, *CNN) == (
        "data/valid.txt: 100% of its rows are among those of train.txt, which are trained on: a score on them would "
        "mean nothing; is the data right?"
    )
    (folder / "data" / "valid.txt").write_text("good film indeed\t1\nbad film indeed\t0\n", encoding="utf-8")
    (folder / "other.txt").write_text("gut 1 2\nFilm 1 3\n", encoding="utf-8")
    assert "of the words of train.txt have no vector; are the vectors of its language" in refused(
        PREPROCESS, *CNN, "--embedding_path=other.txt"
    )
