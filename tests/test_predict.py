"""Tests of predictions: the same from every form, of every kind of file, without PyTorch where it is not needed."""

import csv
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import SIZES, make_encoder, sentence, write_task
from tokenizers import Tokenizer

import predict as script
from fine_tune.data.tokens import load_split, tokenize
from fine_tune.export import lean, texts
from fine_tune.export.lean import About, Model
from fine_tune.export.live import backend
from fine_tune.model.load import load_run
from fine_tune.path import PROJECT
from fine_tune.scores.predict import predict
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import TASKS

ASK = ("predict", "--experiment", "teacher", "--task", "sst2")
MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
NEEDS_ONNX = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
TEXTS = [sentence(seed) for seed in range(40)]
KIND = "single_label_classification"


@pytest.fixture(scope="module")
def exported(shipped):
    """Export of the tuned teacher in all forms."""
    return shipped.run("teacher") / "export"


@pytest.fixture
def plain(teacher, run):
    """Export of this test's teacher as a HuggingFace folder."""
    run("export_model", *ASK[1:])
    return teacher / "export"


def written(folder: Path, kind: str, rows: list[str]) -> Path:
    """Write texts as a file of some kind."""
    file = folder / f"in.{kind}"
    with file.open("w", encoding="utf-8", newline="") as out:
        if kind == "csv":
            writer = csv.writer(out)
            writer.writerows([("id", "sentence"), *enumerate(rows)])
        elif kind == "tsv":
            out.writelines(["sentence\tid\n", *(f"{row}\t{number}\n" for number, row in enumerate(rows))])
        elif kind == "jsonl":
            out.writelines(json.dumps({"id": number, "sentence": row}) + "\n" for number, row in enumerate(rows))
        else:
            out.writelines(f"{row}\n" for row in rows)
    return file


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def expected(rows: list[str]) -> np.ndarray:
    """Probabilities of texts by the run's model, text by text."""
    loaded = load_run("teacher", "bert", TASKS["sst2"], None, None, "--ckpt")
    found = []
    for row in rows:
        inputs = loaded.tokenizer(row, truncation=True, max_length=loaded.max_seq_len, return_tensors="pt")
        with torch.no_grad():
            found.append(loaded.model(inputs["input_ids"], None, inputs["token_type_ids"]).logits[0].softmax(0))
    return torch.stack(found).numpy()


# The same of every kind of file.


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "txt"])
def test_a_file_is_answered_in_its_order(kind, teacher, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(texts, "WINDOW", 16)
    rows = [*TEXTS, 'a "good" film, and funny', "good " * 50]
    run(*ASK, "--input", written(tmp_path, kind, rows), "--device_id", -1)
    told = table(capsys.readouterr().out)
    want = expected(rows)
    assert [row["label"] for row in told] == [("negative", "positive")[place] for place in want.argmax(1)]
    got = np.array([[float(row["negative"]), float(row["positive"])] for row in told])
    assert np.abs(got - want).max() < 1e-5 and len({round(value, 3) for value in want[:, 0].tolist()}) > 3


def test_a_file_is_written_whole_and_never_over_another(teacher, run, refused, tmp_path):
    source, out = written(tmp_path, "csv", TEXTS), tmp_path / "out.jsonl"
    run(*ASK, "--input", source, "--output", out)
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    want = expected(TEXTS)
    assert np.abs(np.array([list(answer["probabilities"].values()) for answer in answers]) - want).max() < 1e-5
    assert [answer["label"] for answer in answers] == [("negative", "positive")[place] for place in want.argmax(1)]
    before = out.read_bytes()
    assert refused(*ASK, "--input", source, "--output", out) == f"--output {out} exists; pass --overwrite to replace it"
    source.write_text(source.read_text() + "40,\n")
    told = refused(*ASK, "--input", source, "--output", out, "--overwrite")
    assert told == f"{source}:42: an empty text" and out.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir() if file.suffix == ".part"} == set()
    run(*ASK, "--input", written(tmp_path, "csv", TEXTS[:3]), "--output", out, "--overwrite")
    assert len(out.read_text().splitlines()) == 3


def test_an_input_is_no_output(teacher, refused, tmp_path):
    source = written(tmp_path, "tsv", TEXTS)
    before = source.read_bytes()
    told = refused(*ASK, "--input", source, "--output", source, "--overwrite")
    assert told == f"--output {source} is the --input; it is left alone" and source.read_bytes() == before


def test_a_folder_answers_as_the_run_does(plain, run, capsys, tmp_path):
    source = written(tmp_path, "txt", TEXTS)
    found = []
    for which in (("--folder", plain), ASK[1:]):
        capsys.readouterr()
        run("predict", *which, "--input", source, "--threads", 1)
        found.append(table(capsys.readouterr().out))
    got = [[[float(row[name]) for name in ("negative", "positive")] for row in rows] for rows in found]
    assert np.abs(np.array(got[0]) - got[1]).max() < 1e-5
    assert [row["label"] for row in found[0]] == [row["label"] for row in found[1]]


@pytest.mark.parametrize("task", ["qnli", "stsb"])
def test_pairs_and_numbers(task, data, encoder, run, capsys, tmp_path):
    write_task(data.root, task)
    run(
        "run_fine_tune", "--experiment", "teacher", "--task", task, "--ptrain_ver", encoder, "--max_seq_len", 14,
        "--total_step", 2, "--batch_size", 4, "--lr", 5e-2, "--device_id", -1, "--no_preflight",
    )  # fmt: skip
    run("export_model", "--experiment", "teacher", "--task", task)
    loaded = load_run("teacher", "bert", TASKS[task], None, None, "--ckpt")
    rows = load_split(TASKS[task], "dev", loaded.tokenizer, loaded.max_seq_len)
    logits = predict(loaded.model, rows, 4, torch.device("cpu"))
    want = logits if task == "stsb" else logits.softmax(1)
    own = data.file(TASKS[task].folder) / "dev.tsv"
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join("\t".join(row.text) + "\n" for row in read_split(TASKS[task], "dev")))
    export = data.run("teacher", task) / "export"
    first, second = TASKS[task].text
    for words in (
        ("--experiment", "teacher", "--task", task, "--input", own), ("--folder", export, "--input", own),
        ("--folder", export, "--input", own, "--text", f"{first},{second}"), ("--folder", export, "--input", pairs),
    ):  # fmt: skip
        capsys.readouterr()
        run("predict", *words)
        told = table(capsys.readouterr().out)
        got = [[float(row[name]) for name in TASKS[task].label_names] for row in told]
        assert np.abs(np.array(got) - want.numpy()).max() < 1e-5
        assert ("label" in told[0]) == (task != "stsb")


# The lean path.


def cut(folder: str, tokens: int) -> tuple[Model, transformers.PreTrainedTokenizerFast]:
    """A model of which only the tokenizer matters."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    about = About(("a", "b"), KIND, tokens, tokenizer.pad_token_id, ())
    return Model(
        about, backend(tokenizer), lambda inputs: np.zeros((len(inputs["input_ids"]), 2), np.float32)
    ), tokenizer


@pytest.mark.parametrize("task", ["sst2", "qnli"])
@pytest.mark.parametrize("tokens", [5, 9, 64])
def test_text_is_cut_as_in_training(task, tokens, data, encoder):
    """A pair at its longer half first."""
    if task != "sst2":
        write_task(data.root, task, dev=60)
    model, tokenizer = cut(encoder, tokens)
    arrays = tokenize(TASKS[task], "dev", tokenizer, tokens)
    ids = np.split(arrays["input_ids"], arrays["offsets"][1:-1])
    types = np.split(arrays["token_type_ids"], arrays["offsets"][1:-1])
    seen = []
    model.run = lambda inputs: seen.append(inputs) or np.zeros((1, 2), np.float32)
    for row, want_ids, want_types in zip(read_split(TASKS[task], "dev"), ids, types, strict=True):
        model.answers([row.text])
        assert seen[-1]["input_ids"][0].tolist() == want_ids.tolist()
        assert seen[-1]["token_type_ids"][0].tolist() == want_types.tolist()
    assert max(len(row) for row in ids) == min(tokens, max(len(row) for row in ids)) >= 5


def test_texts_of_like_length_share_a_batch_and_come_back_in_order(encoder):
    model, _ = cut(encoder, 64)
    widths = []

    def run(inputs):
        widths.append(inputs["input_ids"].shape)
        real = inputs["attention_mask"].sum(1)
        assert (inputs["input_ids"][inputs["attention_mask"] == 0] == 0).all()
        return np.stack([real, -real], 1).astype(np.float32)

    model.run, model.batch = run, 8
    rows = [("good " * (1 + 7 * number % 30),) for number in range(20)]
    got = model.logits(rows)
    assert got[:, 0].tolist() == [2 + row[0].count("good") for row in rows]
    assert [shape[0] for shape in widths] == [8, 8, 4] and widths[0][1] < widths[1][1] < widths[2][1]
    model.run = lambda inputs: np.zeros((len(inputs["input_ids"]), 3), np.float32)
    with pytest.raises(ValueError, match="the model gives 3 numbers a text; config.json names 2"):
        model.logits(rows)


def test_answers_of_every_kind():
    single = About(("a", "b", "c"), KIND, 9, 0, ())
    told = lean.answer(np.array([1000.0, 999.0, -1000.0], np.float32), single)
    assert told.label == "a" and list(told.probabilities.values()) == pytest.approx([0.7310586, 0.2689414, 0])
    several = single._replace(kind=lean.MULTI)
    told = lean.answer(np.array([1000.0, 0.0, -1000.0], np.float32), several)
    assert told.label == "a|b" and told.probabilities == {"a": 1.0, "b": 0.5, "c": 0.0}
    assert json.loads(texts.as_object(told, several))["labels"] == ["a", "b"]
    assert texts.as_cells(told, several) == "a|b\t1.000000\t0.500000\t0.000000\n"
    number = About(("score",), lean.REGRESSION, 9, 0, ())
    told = lean.answer(np.array([2.5], np.float32), number)
    assert texts.header(number) == "score\n" and texts.as_cells(told, number) == "2.500000\n"
    assert json.loads(texts.as_object(told, number)) == {"score": 2.5}


@pytest.mark.slow
@NEEDS_ONNX
@pytest.mark.parametrize("form", ["onnx", "int8"])
def test_an_export_answers_as_the_run_does_without_pytorch(form, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(exported.parents[2]))
    source, out = written(tmp_path, "csv", TEXTS), tmp_path / "out.tsv"
    words = [
        "--folder",
        str(exported),
        "--format",
        form,
        "--input",
        str(source),
        "--output",
        str(out),
        "--threads",
        "1",
    ]
    code = (
        "import sys, predict; predict.main(sys.argv[1:]); "
        "print({'torch', 'transformers', 'pandas', 'onnx', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    got = np.array([[float(row["negative"]), float(row["positive"])] for row in table(out.read_text())])
    assert np.abs(got - expected(TEXTS)).max() < (1e-4 if form == "onnx" else 0.05)


@pytest.mark.slow
@NEEDS_ONNX
def test_int8_answers_do_not_depend_on_the_texts_beside_them(exported):
    model = lean.open_folder(exported, "int8", 1)
    together = model.logits([(text,) for text in TEXTS])
    assert np.array_equal(together, np.concatenate([model.logits([(text,)]) for text in TEXTS]))


@pytest.mark.slow
@NEEDS_ONNX
def test_the_exports_own_script_stands_alone(exported, tmp_path):
    """Copied into a product, beside nothing of this project."""
    shutil.copy(exported / "lean.py", tmp_path)
    code = "import sys, lean; print(lean.open_folder(sys.argv[1], 'onnx', 1).answers([('a good film',)])[0].label)"
    told = subprocess.run(
        [sys.executable, "-c", code, exported], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert told.stdout.strip() in ("negative", "positive")


@pytest.mark.slow
@NEEDS_ONNX
def test_a_pipe_is_answered_line_by_line(exported):
    words = [sys.executable, "predict.py", "--folder", exported, "--format", "int8", "--input", "-", "--threads", "1"]
    with subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "label\tnegative\tpositive\n"
        for text in TEXTS[:3]:
            process.stdin.write(text + "\n")
            process.stdin.flush()
            assert process.stdout.readline().split("\t")[0] in ("negative", "positive")
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.readline() == "" and process.wait() == 2


# Streaming, and bad input.


def test_a_file_is_never_held_as_a_whole(encoder, tmp_path):
    model, _ = cut(encoder, 16)
    source = written(tmp_path, "csv", TEXTS * 5)
    with source.open("rb") as handle:
        read = []
        rows = texts.read_texts(handle, str(source), ("sentence",), read.append)
        answers = texts.answered(model, rows, 8)
        assert len(next(answers)) == 8 and len(read) == 9
        assert sum(map(len, answers)) == 192 and sum(read) == source.stat().st_size


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "sentence,id\ngood,1\nbad\n", "a.csv:3: expected 2 columns, got 1"),
        ("a.csv", "sentence,id\ngood,1,2\n", "a.csv:2: expected 2 columns, got 3"),
        ("a.csv", 'sentence\n"good\n', "a.csv:2: unexpected end of data"),
        ("a.csv", 'sentence\n"go"od\n', "a.csv:2: ',' expected after '\"'"),
        ("a.csv", "text\ngood\n", "a.csv:1: the column sentence is missing; the header has text; --text names columns"),
        ("a.csv", "sentence,sentence\ngood,1\n", "a.csv:1: the column sentence stands twice"),
        ("a.csv", "sentence\n", "a.csv: no rows"),
        ("a.csv", "", "a.csv: no rows"),
        ("a.csv", "sentence\n\ngood\n", "a.csv:3: blank lines stand before this one; remove them"),
        ("a.tsv", "sentence\tid\n  \t1\n", "a.tsv:2: an empty text"),
        ("a.txt", "good\n\nbad\n", "a.txt:2: an empty text"),
        ("a.txt", "", "a.txt: no rows"),
        ("a.jsonl", '{"sentence": "good"}\n{"sentence": 3}\n', "a.jsonl:2: no text 'sentence'; the object has "),
        ("a.jsonl", '["good"]\n', "a.jsonl:1: expected a JSON object, got list"),
        ("a.jsonl", "good\n", "a.jsonl:1: Expecting value"),
        ("a.jsonl", '{"sentence": "\\ud800"}\n', "a.jsonl:1: half of a surrogate pair, which is no character"),
        ("a.jsonl", "[" * 100000, "a.jsonl:1: "),
        ("a.txt", b"good\ncaf\xe9\n", "a.txt:2: not UTF-8: "),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named(name, content, told, tmp_path):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with file.open("rb") as handle, pytest.raises(ValueError) as error:
        list(texts.read_texts(handle, name, ("sentence",)))
    assert str(error.value).startswith(told) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b'\xef\xbb\xbfsentence\r\n"a good, ""fine""\r\nfilm"\r\nNA\r\n\r\n'),
        ("a.tsv", b'sentence\n"a good\nnull\n'),
        ("a.txt", b"one\r\ntwo\n"),
    ],
)
def test_rows_are_read_as_they_stand(name, content):
    want = {"a.csv": [('a good, "fine"\r\nfilm',), ("NA",)], "a.tsv": [('"a good',), ("null",)],
            "a.txt": [("one",), ("two",)]}  # fmt: skip
    assert list(texts.read_texts(io.BytesIO(content), name, ("sentence",))) == want[name]


def test_files_that_are_no_text_are_refused_before_a_model_is_read(refused, tmp_path, data):
    source = tmp_path / "a.csv"
    source.write_bytes(b"PAR1....")
    assert "a Parquet file" in refused(*ASK, "--input", source)
    source.write_text("sentence\ngood\n", encoding="utf-16")
    assert "UTF-16" in refused(*ASK, "--input", source)
    assert refused(*ASK, "--input", tmp_path / "no.csv") == f"--input {tmp_path / 'no.csv'}: is not there"
    told = refused(*ASK, "--input", tmp_path / "a.parquet")
    assert told.endswith("a file in .csv, .tsv, .jsonl, .json, .txt is needed, or - for standard input")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give one of --experiment, for a run, and --folder"),
        (("--experiment", "a", "--folder", "b"), "give one of --experiment"),
        (("--experiment", "a"), "--experiment needs --task"),
        (("--folder", "b", "--ckpt", "3"), "--ckpt is of a run"),
        (("--folder", "b", "--format", "int8", "--device_id", "0"), "--device_id is for --format torch"),
        (("--folder", "b", "--threads", "-1"), "--threads -1: 0 or more are needed"),
        (("--folder", "b", "--output", "x.csv"), "--output x.csv: its name must end with .tsv or .jsonl"),
        (("--folder", "nowhere", "--format", "onnx"), "--folder nowhere: is not there"),
        (("--folder", "nowhere"), "nowhere/config.json is not there"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(words, told, refused):
    assert refused("predict", "--input", "-", *words).startswith(told)


def test_columns_that_the_model_does_not_read_are_refused(plain, refused, tmp_path):
    source = written(tmp_path, "csv", TEXTS)
    told = refused("predict", "--folder", plain, "--input", source, "--text", "a,b")
    assert told == "--text a,b: the model reads 1 texts, not 2"
    told = refused("predict", "--folder", plain, "--input", written(tmp_path, "txt", TEXTS), "--text", "sentence")
    assert told == "--text sentence: lines of text have no named columns; leave it out"


# Exports that are damaged.


def damaged(folder: Path, name: str, change) -> None:
    file = folder / name
    file.write_bytes(change(file.read_bytes()))


BROKEN = {
    "no tokenizer": ("tokenizer.json", None, "tokenizer.json is not there; is "),
    "half a tokenizer": ("tokenizer.json", lambda old: old[: len(old) // 2], "tokenizer.json: not a readable "),
    "no configuration": ("config.json", None, "config.json is not there; is "),
    "a list": ("config.json", lambda old: b"[]", "config.json: expected one JSON object, got list"),
    "half a configuration": ("config.json", lambda old: old[:40], "config.json: not a JSON file"),
    "names of 1 and 2": (
        "config.json", lambda old: old.replace(b'"0": "neg', b'"2": "neg'), "id2label must name the classes 0, 1, ..",
    ),
    "a list of names": (
        "config.json", lambda old: json.dumps(json.loads(old) | {"id2label": ["a"]}).encode(), "id2label must name",
    ),
    "three texts": (
        "export.json", lambda old: json.dumps(json.loads(old) | {"text": ["a", "b", "c"]}).encode(),
        "text must name one or two columns",
    ),
    "no length": (
        "tokenizer_config.json", lambda old: json.dumps(json.loads(old) | {"model_max_length": 1e30}).encode(), "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_damaged_export_is_refused_in_one_line(fault, plain, refused, tmp_path, capsys, run):
    name, change, told = BROKEN[fault]
    if change is None:
        (plain / name).unlink()
    else:
        damaged(plain, name, change)
    ask = ("predict", "--folder", plain, "--format", "onnx", "--input", written(tmp_path, "txt", TEXTS))
    if told:
        assert told in refused(*ask)
    else:  # the positions of the model are the limit
        about, _ = lean.describe(plain)
        assert about.tokens == 64


def test_onnx_that_cannot_be_run_is_refused_in_one_line(plain, refused, tmp_path):
    pytest.importorskip("onnxruntime")
    ask = ("predict", "--folder", plain, "--format", "int8", "--input", written(tmp_path, "txt", TEXTS))
    assert refused(*ask).endswith("onnx/model_int8.onnx is not there")
    (plain / "onnx").mkdir()
    (plain / "onnx" / "model_int8.onnx").write_bytes(b"not a model")
    assert "model_int8.onnx: onnxruntime cannot run it: " in refused(*ask)


def test_without_onnxruntime_it_says_what_to_install(plain, refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ask = ("predict", "--folder", plain, "--format", "onnx", "--input", written(tmp_path, "txt", TEXTS))
    assert refused(*ask) == "ONNX needs onnxruntime: pip install -r requirements-export.txt"


def test_a_folder_whose_classifier_has_no_weights_is_refused(tmp_path, refused):
    folder = make_encoder(tmp_path / "plain", transformers.BertConfig(**SIZES))
    told = refused("predict", "--folder", folder, "--input", "-")
    assert "weights are missing, classifier.bias among them; has it a classifier?" in told


def test_the_reader_has_had_enough(teacher, run, tmp_path, monkeypatch):
    """As `head` has."""

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

        def fileno(self):
            return os.open(os.devnull, os.O_WRONLY)

    monkeypatch.setattr(sys, "stdout", Closed())
    run(*ASK, "--input", written(tmp_path, "txt", TEXTS))


def test_the_lean_part_imports_three_packages_and_nothing_of_this_project():
    import ast

    tree = ast.parse(Path(lean.__file__).read_text(encoding="utf-8"))
    found = {node.names[0].name if isinstance(node, ast.Import) else node.module
             for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
    others = {name.split(".")[0] for name in found} - sys.stdlib_module_names
    assert others == {"numpy", "onnxruntime", "tokenizers"}


def test_the_tokenizer_of_a_run_is_not_changed(encoder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    before = tokenizer.backend_tokenizer.to_str()
    copy = backend(tokenizer)
    copy.enable_truncation(3)
    assert isinstance(copy, Tokenizer) and tokenizer.backend_tokenizer.to_str() == before
    assert script.build_parser().get_default("format") == "torch"
