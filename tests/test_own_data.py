"""Tests of a user's own rows: task files and flags, formats, what is told, all methods, all kinds of labels."""

import csv
import itertools
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import sentence
from methods import METHODS, STAGED, own_words

from fine_tune.compare import statistics
from fine_tune.losses import hard_target_loss, soft_target_loss
from fine_tune.run.teacher_check import better_order, fault
from fine_tune.scores.metrics import decide, metric
from fine_tune.tasks import named
from fine_tune.tasks.named import task_named
from fine_tune.tasks.own import different_names, kind_of, task_of, to_json
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import SLICES, TASKS, Task
from fine_tune.train.methods import METHODS as TABLE

QUICK = ("--device_id", -1, "--batch_size", 8, "--log_step", 1, "--total_step", 2, "--warmup_step", 1)
TUNE = ("--max_seq_len", 24, *QUICK)
SLOW = pytest.mark.slow
COLOURS = ("red", "green", "blue")


def colour(row: int) -> str:
    """The class of a row."""
    return COLOURS[row % 3]


def several(row: int) -> list[str]:
    """The labels of a row: none, one, two or three of them."""
    return [name for number, name in enumerate(COLOURS) if row >> number & 1]


def write(file: Path, count: int, start: int = 0, **columns) -> Path:
    """Write rows of columns, each a function of the row's number, in the format that the suffix names."""
    rows = [{name: value(row) for name, value in columns.items()} for row in range(start, start + count)]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs it")
        pd.DataFrame(rows).to_parquet(file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        cells = [{key: "|".join(v) if isinstance(v, list) else v for key, v in row.items()} for row in rows]
        with file.open("w", encoding="utf-8", newline="") as out:
            table = csv.DictWriter(out, list(columns), delimiter="," if file.suffix == ".csv" else "\t")
            table.writeheader()
            table.writerows(cells)
    return file


def one(row: int) -> str:
    return f"{sentence(2 * row)}, {sentence(row)}"


def two(row: int) -> str:
    return sentence(100 + row)


LABELS = {"pair": colour, "multi": several, "regression": lambda row: row * 0.25 + 0.1}


def make(folder: Path, kind: str = "pair", suffix: str = "csv", name: str = "mine", more: str = "") -> Path:
    """Write rows and a task file; give the latter."""
    texts = {"a": one, "b": two} if kind == "pair" else {"a": one}
    for split, count in (("train", 24), ("dev", 12), ("test", 6)):
        start = {"train": 0, "dev": 100, "test": 200}[split]
        label = {} if split == "test" else {"colour": LABELS[kind]}
        write(folder / f"{split}.{suffix}", count, start, **texts, **label)
    text = f"train: train.{suffix}\ndev: dev.{suffix}\ntest: test.{suffix}\ntext: [{', '.join(texts)}]\nlabel: colour\n"
    text += "kind: multi\n" if kind == "multi" and suffix in ("csv", "tsv") else ""
    (folder / f"{name}.yaml").write_text(text + more, encoding="utf-8")
    return folder / f"{name}.yaml"


@pytest.fixture(autouse=True)
def forget():
    """What an earlier script of the same process has read, no script knows."""
    named.READ.clear()


@pytest.fixture
def own(data, tmp_path):
    """`own("multi", "jsonl")` writes a task beside the data folder's own files."""
    return lambda *args, **more: make(tmp_path / "rows", *args, **more)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_all_formats_mean_the_same(kind, suffix, own):
    task = task_named(str(own(kind, suffix)))
    assert task.name == "mine" and task.kind == ("single" if kind == "pair" else kind) and task.dev == ("dev",)
    assert set(task.labels) == (set() if kind == "regression" else set(COLOURS))
    rows = read_split(task, "train")
    assert [row.text for row in rows] == [(one(r), two(r))[: len(task.text)] for r in range(24)]
    label = {
        "pair": lambda row: float(task.labels.index(colour(row))),
        "multi": lambda row: tuple(float(name in several(row)) for name in task.labels),
        "regression": lambda row: row * 0.25 + 0.1,
    }[kind]
    assert [row.label for row in rows] == [label(row) for row in range(24)]
    assert [row.label for row in read_split(task, "test")] == [None] * 6


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["a", "b"], "single"), (["1", "2", "3"], "single"), (["1.0", "2.0"], "single"), (["1.5", "2"], "regression"),
        ([1, 2], "single"), ([0.5, 1.0], "regression"), ([["a"], []], "multi"), ([True, False], "single"),
        (["1.5", "x"], "single"), (["nan", "1.5"], "single"),
    ],
)  # fmt: skip
def test_the_kind_is_decided_by_the_labels(cells, kind):
    assert kind_of(cells) == kind


def test_yes_and_no_are_words_and_numbers_keep_their_order(own, tmp_path):
    file = own("pair", more="labels: [blue, yes, green, no, red]\n")
    assert task_named(str(file)).labels == ("blue", "yes", "green", "no", "red")
    write(tmp_path / "rows/train.csv", 24, a=one, b=two, colour=lambda row: row % 12)
    file.write_text("train: train.csv\ntext: [a, b]\nlabel: colour\nsplit: 0.25\n", encoding="utf-8")
    assert task_named(str(file)).labels == tuple(map(str, range(12)))


def test_huggingfaces_flags_write_the_same_task(own, run, encoder, data, tmp_path):
    file, folder = own("pair"), tmp_path / "rows"
    base = ("--experiment", "t", "--ptrain_ver", encoder, *TUNE)
    files = [("--train_file", "train"), ("--validation_file", "dev"), ("--test_file", "test")]
    words = [word for flag, split in files for word in (flag, folder / f"{split}.csv")]
    run("run_fine_tune", *base, "--task", "mine", *words, "--text_column_names", "a,b", "--label_column_name", "colour")
    assert task_of(data.run("t", "mine")) == task_named(str(file))
    assert data.config("t", "mine")["train_file"] == str(folder / "train.csv")
    run("run_fine_tune", "--from_config", data.run("t", "mine") / "config.json", "--experiment", "again")
    assert data.metrics("again", "mine") == data.metrics("t", "mine")


def test_what_a_run_keeps_is_the_task(own, tmp_path):
    more = "names: [Blue, Green, Red]\nlabels: [blue, green, red]\nmetrics: [f1, accuracy]\n"
    task = task_named(str(own("pair", more=more)))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/task.json").write_text(json.dumps(to_json(task)), encoding="utf-8")
    assert task_of(tmp_path / "run") == task and task.label_names == ("Blue", "Green", "Red")
    assert task_named(str(tmp_path / "run/task.json")) == task
    assert task_of(tmp_path) is None


def test_rows_held_out_are_a_function_of_the_seed_and_equal_texts_stay_together(own):
    file = own("pair")
    columns = {"a": lambda row: ["Good  Film ", "good film "][row % 2] + str(row // 2), "b": lambda row: two(row // 2)}
    write(file.parent / "pairs.csv", 40, **columns, colour=colour)
    text = "train: pairs.csv\ntext: [a, b]\nlabel: colour\nsplit: 0.2\n"
    file.write_text(text, encoding="utf-8")
    task = task_named(str(file))
    train, dev = read_split(task, "train"), read_split(task, "dev")
    assert len(dev) == 8 and len(train) == 32 and {row.id for row in train + dev} == set(map(str, range(40)))
    assert {int(row.id) // 2 for row in train}.isdisjoint({int(row.id) // 2 for row in dev})
    assert read_split(task_named(str(file)), "dev") == dev
    assert len(read_split(task, SLICES[0])) + len(read_split(task, SLICES[1])) == 32
    file.write_text(text + "split_seed: 7\n", encoding="utf-8")
    other = task_named(str(file))
    assert read_split(other, "dev") != dev and other.hidden() != task.hidden()
    assert {path.name for path in file.parent.iterdir()} == {
        "train.csv", "dev.csv", "test.csv", "pairs.csv", "mine.yaml"
    }  # fmt: skip


def test_a_folder_as_glue_has_it_without_dev_is_read(data, tmp_path):
    text = "train: fine_tune/SST-2/train.tsv\nsplit: 0.25\n"
    (tmp_path / "mysst.yaml").write_text(text, encoding="utf-8")
    task, official = task_named(str(tmp_path / "mysst.yaml")), read_split(TASKS["sst2"], "train")
    rows = sorted([*read_split(task, "train"), *read_split(task, "dev")], key=lambda row: int(row.id))
    assert rows == official and len(read_split(task, "dev")) == 6 and task.labels == ("0", "1")


def test_a_text_that_is_most_of_the_rows_is_not_held_out(own):
    """Nor all rows but none; where all texts are the same, none can be."""
    file = own("pair")
    write(file.parent / "train.csv", 40, a=lambda row: sentence(0 if row < 30 else row), b=lambda _: "x", colour=colour)
    for share, most in (("0.1", 4), ("0.001", 1), ("0.999", 39)):
        file.write_text(f"train: train.csv\ntext: [a, b]\nlabel: colour\nsplit: {share}\n", encoding="utf-8")
        task = task_named(str(file))
        assert 0 < len(read_split(task, "dev")) <= most and len(read_split(task, "train")) > 0
    write(file.parent / "train.csv", 40, a=lambda _: "x", b=lambda _: "x", colour=colour)
    with pytest.raises(ValueError, match=r"train.csv: all rows have the same text"):
        read_split(task, "dev")


def test_a_split_from_the_command_line_is_that_of_later_runs(own, run, refused, encoder, data):
    file = own("pair")
    file.write_text("train: train.csv\ntext: [a, b]\nlabel: colour\n", encoding="utf-8")
    base = ("--ptrain_ver", encoder, *TUNE)
    told = refused("run_fine_tune", "--experiment", "t", "--task", file, *base)
    assert "no dev rows" in told and "--split 0.1" in told and str(file) in told
    run("run_fine_tune", "--experiment", "t", "--task", file, *base, "--split", 0.25)
    named.READ.clear()
    run("run_fine_tune_eval", "--experiment", "t", "--task", "mine", "--device_id", -1)
    assert data.config("t", "mine", "eval_dev.json")["rows"] == 6
    told = refused("run_fine_tune", "--experiment", "u", "--task", "mine", *base, "--split", 0.5)
    assert "--split 0.5" in told and "0.25" in told
    told = refused("run_fine_tune", "--experiment", "u", "--task", "sst2", *base, "--split", 0.5)
    assert told == "--split: the task sst2 is one of this project; leave the flag out"


TAUGHT = {**{name: (script, *words) for name, (script, words) in METHODS.items()}, **{
    name: (TABLE[name].script, *own_words_of) for name, own_words_of in (
        (name, [word for key, value in TABLE[name].fixed.items()
                for word in ([f"--{key}"] if value == "true" else [f"--{key}", value])] + list(words))
        for name, words in STAGED.items()
    )
}, "fine_tune": (TABLE["fine_tune"].script, *own_words("fine_tune"))}  # fmt: skip
"""Script and flags of every method."""
SINGLE = {name for name in STAGED if "glove" in name or "densenet" in name}
"""Networks on word vectors read single texts."""
FAST = {("pair", "lad"), ("multi", "kd")}
CASES = [
    *(("pair", name) for name in TAUGHT if name not in SINGLE),
    *(("multi", name) for name in ("lad", "pkd-hidden", "alp-kd", "kd", "fine_tune", "offline", "match", "match_hidden",
      "contrast", "layerwise_contrast", "kd_from_ckpt", *SINGLE)),
    *(("regression", name) for name in ("lad", "kd", "fine_tune", "offline", "contrast", *SINGLE)),
]  # fmt: skip
CASES = sorted(set(CASES) - {("multi", "match")})


@pytest.fixture(scope="module")
def teachers(encoder, tmp_path_factory):
    """Data folders with a teacher, its banks, its logits and a student to continue, by kind."""
    from conftest import call

    roots = {}

    def of(kind: str) -> Path:
        if kind in roots:
            return roots[kind]
        root = roots[kind] = tmp_path_factory.mktemp(kind)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATA_DIR", str(root))
            file = make(root / "rows", kind)
            call("run_fine_tune", "--experiment", "teacher", "--task", file, "--ptrain_ver", encoder, *TUNE)
            named.READ.clear()
            words = ("--experiment", "teacher", "--task", "mine", "--dataset", "train", "--device_id", -1)
            for script in ("run_fine_tune_gen_logits", "build_logitsbank", "build_membank"):
                call(script, *words)
            call("build_membank", *words, "--layer_wise")
            taught = ("--task", "mine", "--teacher_exp", "teacher", *QUICK)
            call("run_fine_tune_distill_mgpu", "--experiment", "source", *taught, "--use_hidden_loss")
        return root

    return of


@pytest.mark.parametrize(
    ("kind", "name"), [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in CASES]
)
def test_every_method_learns_own_rows(kind, name, teachers, run, monkeypatch):
    """Two updates, found by the task's name; the run keeps the task, and its loss is finite."""
    root = teachers(kind)
    monkeypatch.setenv("DATA_DIR", str(root))
    script, *words = TAUGHT[name]
    words = ["teacher_bert_mine" if word == "teacher_bert_sst2" else word for word in words]
    teacher = () if name in ("scl", "offline") else ("--teacher_exp", "teacher")
    experiment = f"{name.replace('-', '_')}_x"
    if name == "offline":
        words += ["--ptrain_ver", str(root / "fine_tune_experiment/teacher_bert_mine/tokenizer")]
    run(script, "--experiment", experiment, "--task", "mine", *teacher, *QUICK, *words)
    folder = next((root / "fine_tune_experiment").glob(f"{experiment}_*_mine"))
    assert task_of(folder) == task_of(root / "fine_tune_experiment/teacher_bert_mine")
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2 and np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("train_scl_from_ckpt", ("--src_experiment", "source")),
        ("run_fine_tune_distill_mgpu", ("--teacher_exp", "teacher", "--use_classify_loss", "--ce_weight", 0.5)),
        (
            "run_layerwise_contrast_distill",
            ("--teacher_exp", "teacher", "--neg_num", 3, "--contrast_steps", 1, "--defined_by_label"),
        ),
    ],
)
@pytest.mark.slow
def test_what_needs_one_class_to_a_row_refuses_several(script, words, teachers, refused, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(teachers("multi")))
    assert "several labels to a row" in refused(script, "--experiment", "no", "--task", "mine", *QUICK, *words)


@pytest.mark.parametrize("kind", [kind if kind == "multi" else pytest.param(kind, marks=SLOW) for kind in LABELS])
def test_a_run_is_scored_predicted_and_drawn_without_its_task_file(kind, own, run, refused, encoder, data, capsys):
    """The training rows are gone, too."""
    file = own(kind)
    run("run_fine_tune", "--experiment", "t", "--task", file, "--ptrain_ver", encoder, *TUNE)
    named.READ.clear()
    file.unlink()
    (file.parent / "train.csv").unlink()
    of = ("--experiment", "t", "--task", "mine", "--device_id", -1)
    run("run_fine_tune_eval", *of, "--do_predict")
    metrics = {
        "pair": {"accuracy"},
        "multi": {"micro_f1", "macro_f1", "accuracy"},
        "regression": {"pearson", "spearman"},
    }
    assert set(data.config("t", "mine", "eval_dev.json")["best"]) == {"loss", *metrics[kind]}
    table = pd.read_csv(data.run("t", "mine") / "mine.csv", dtype=str, keep_default_na=False)
    assert list(table["index"]) == list(map(str, range(6)))
    if kind == "regression":
        assert np.isfinite(table["prediction"].astype(float)).all()
    else:
        assert {word for cell in table["prediction"] for word in cell.split("|") if word} <= set(COLOURS)
    run("compare_runs", *of)
    run("plot_run", data.run("t", "mine"))
    assert metrics[kind] <= set(capsys.readouterr().out.split())
    assert "no labels" in refused("run_fine_tune_eval", *of, "--dataset", "test")


def test_a_test_split_with_labels_is_scored_and_one_that_is_missing_refused(own, run, refused, encoder, data):
    file = own("pair")
    write(file.parent / "test.csv", 9, 300, a=one, b=two, colour=colour)
    run("run_fine_tune", "--experiment", "t", "--task", file, "--ptrain_ver", encoder, *TUNE)
    of = ("--experiment", "t", "--task", "mine", "--device_id", -1)
    run("run_fine_tune_eval", *of, "--dataset", "test")
    assert data.config("t", "mine", "eval_test.json")["rows"] == 9
    text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("test"))
    (file.parent / "other.yaml").write_text(text, encoding="utf-8")
    run("run_fine_tune", "--experiment", "u", "--task", file.parent / "other.yaml", "--ptrain_ver", encoder, *TUNE)
    told = refused("generate_test_prediction", "--experiment", "u", "--task", "other", "--device_id", -1)
    assert told.startswith("--dataset test: other has no test split")


@pytest.mark.slow
def test_a_suite_compares_methods_on_own_rows(own, run, refused, encoder, data):
    file = own("multi")
    run("run_fine_tune", "--experiment", "teacher", "--task", file, "--ptrain_ver", encoder, *TUNE)
    named.READ.clear()
    words = ("--suite", "s", "--teacher_exp", "teacher", "--seeds", 1, "--total_step", 2, "--device_id", -1)
    words += ("--methods", "kd,fine_tune", "--set", "batch_size=8")
    run("run_suite", *words, "--task", file)
    table = pd.read_csv(data.root / "suites/s/report.csv")
    assert task_of(data.run("s-kd-1", "mine")) == task_of(data.run("teacher", "mine"))
    assert list(table["row"]) == ["teacher", "kd", "fine_tune"]
    assert "micro_f1" in table.columns
    assert "mcnemar_p_seed_1" in pd.read_csv(data.root / "suites/s/pairs.csv").columns
    run("run_suite", *words, "--task", "mine", "--report_only")
    file.write_text(file.read_text() + "metrics: [macro_f1]\n", encoding="utf-8")
    assert "macro_f1" in refused("run_suite", *words, "--task", file)


@pytest.mark.slow
def test_a_run_is_tried_and_resumed_where_its_files_have_moved(own, run, encoder, data, capsys):
    file = own("multi")
    base = ("--task", file, "--ptrain_ver", encoder, *TUNE)
    run("run_fine_tune", "--experiment", "t", *base, "--dry_run")
    assert not data.run("t", "mine").exists()
    run("run_fine_tune", "--experiment", "t", *base)
    for moved in file.parent.iterdir():
        moved.rename(data.root / moved.name)
    with pytest.raises(SystemExit, match="0"):
        run("run_fine_tune", "--experiment", "t", "--resume", "--task", data.root / "mine.yaml", *base[2:])
    assert "complete" in capsys.readouterr().out


def test_augmented_rows_are_written_into_the_data_folder(own, run, encoder, data):
    """A text may have line breaks; nothing is put beside the user's files."""
    file = own("multi")
    write(file.parent / "train.csv", 24, a=lambda row: f"{sentence(row)}\n{two(row)}", colour=several)
    run("run_fine_tune", "--experiment", "teacher", "--task", file, "--ptrain_ver", encoder, *TUNE)
    before = set(file.parent.iterdir())
    run("build_augmented", "--task", file, "--n_iter", 2, "--analyzer", "none")
    assert set(file.parent.iterdir()) == before and data.file("mine/augmented.tsv").is_file()
    assert [row.label for row in read_split(task_named("mine"), "augmented")][:1] == [None]
    words = ("--teacher_exp", "teacher", "--task", "mine", "--dataset", "augmented", "--hard_weight", 0)
    run("run_kd_distil", "--experiment", "s", *words, *QUICK)


def test_a_table_that_was_quoted_is_told(own, caplog):
    file = own("pair", "tsv")
    write(file.parent / "train.tsv", 24, a=lambda row: f'say "{row}"', b=two, colour=colour)
    assert read_split(task_named(str(file)), "train")[0].text[0] == '"say ""0"""'
    assert [line for line in caplog.messages if "24 rows look quoted" in line]


TOLD = {
    "near duplicates": ("pair", lambda row: ["Yes", " yes", "no"][row % 3], "differ in case and blanks"),
    "rare": (
        "pair",
        lambda row: "blue" if row % 100 == 3 else ["red", "green"][row % 2],
        "fewer than 5 rows: blue (1)",
    ),
    "one or several": ("pair", lambda row: ["a", "a|b", "b"][row % 3], "write kind: multi if | stands between"),
    "scores or classes": ("pair", lambda row: row % 4, "write kind: regression if these are scores"),
}


@pytest.mark.parametrize("what", TOLD)
def test_what_looks_wrong_is_told_before_the_start(what, own, run, encoder, caplog):
    kind, label, told = TOLD[what]
    file = own(kind)
    for split, count, start in (("train", 24, 0), ("dev", 12, 100)):
        write(file.parent / f"{split}.csv", count, start, a=one, b=two, colour=label)
    with caplog.at_level(logging.INFO, logger="fine_tune"):
        run("run_fine_tune", "--experiment", "t", "--task", file, "--ptrain_ver", encoder, *TUNE, "--dry_run")
    assert [line for line in caplog.messages if told in line]


def test_training_rows_in_dev_are_told_or_refused(own, run, refused, encoder, caplog):
    file = own("pair")
    words = ("--experiment", "t", "--task", file, "--ptrain_ver", encoder, *TUNE, "--dry_run")
    write(file.parent / "dev.csv", 12, 12, a=one, b=two, colour=colour)
    assert "100% of the rows of mine dev are among those of train" in refused("run_fine_tune", *words)
    write(file.parent / "dev.csv", 40, 23, a=one, b=two, colour=colour)
    run("run_fine_tune", *words)
    assert [line for line in caplog.messages if "2% of the rows of mine dev are among" in line]


def rows_of(*lines: str) -> str:
    return "\n".join(lines) + "\n"


SOUND = "train: train.csv\ndev: dev.csv\ntext: [a, b]\nlabel: colour\n"
WRONG_FILES = {
    "short": (rows_of("a,b,colour", "x,y,red", '"x\ny",y'), "train.csv:3: expected 3 columns, got 2"),
    "long": (rows_of("a,b,colour", "x,y,red,7", "x,y,blue"), "train.csv:2: expected 3 columns, got 4"),
    "open quote": (rows_of("a,b,colour", "x,y,red", '"x,y,blue'), "train.csv:3: not CSV"),
    "stray quote": (rows_of("a,b,colour", "x,y,red", '"x"y,y,blue'), "train.csv:3: not CSV"),
    "no column": (rows_of("a;b;colour", "x;y;red"), "train.csv:1: missing column a, b, colour"),
    "twice": (rows_of("a,b,colour,a", "x,y,red,z"), "train.csv:1: the column a stands twice"),
    "blank line": (rows_of("a,b,colour", "x,y,red", "", "x,y,blue"), "train.csv:3: a blank line"),
    "empty column": (rows_of("a,b,colour", "x,,red", "x,,blue"), "train.csv:2: empty text 'b'"),
    "no labels": (rows_of("a,b,colour", "x,y,", "x,y,"), "train.csv: the column 'colour' is empty"),
    "one label": (rows_of("a,b,colour", "x,y,", "x,y,red"), "the label red alone"),
    "missing label": (rows_of("a,b,colour", "x,y,blue", "x,y,", "x,y,red"), "train.csv:3: unknown label ''"),
    "ids": (rows_of("a,b,colour", *(f"x,y,{row}" for row in range(30))), "30 different labels 'colour' in 30 rows"),
    "utf-16": ("a,b,colour\nx,y,red\n".encode("utf-16"), "train.csv: not UTF-8, it looks like UTF-16"),
    "latin-1": ("a,b,colour\nx,\xe9,red\n".encode("latin-1"), "train.csv:2: not UTF-8"),
    "empty": (b"", "train.csv is empty"),
    "header only": (b"a,b,colour\n", "the column 'colour' is empty"),
    "dev only": (rows_of("a,b,colour", "x,y,blue", "x,y,green"), "dev.csv:4: unknown label 'red'"),
    "na": (rows_of("a,b,colour", "NA,null,blue", "None,nan,green", "x,y,red"), ""),
}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_bad_rows_are_located(what, own):
    """And what is no hole stays a word."""
    content, told = WRONG_FILES[what]
    file = own("pair")
    file.write_text(SOUND, encoding="utf-8")
    (file.parent / "train.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    if not told:
        assert read_split(task_named(str(file)), "train")[0].text == ("NA", "null")
        return
    with pytest.raises(ValueError) as error:
        task = task_named(str(file))
        read_split(task, "train")
        read_split(task, "dev")
    assert told in str(error.value) and "\n" not in str(error.value)


WRONG_TASKS = {
    "a run's key": (SOUND + "test_labels: true\n", "unknown key 'test_labels'"),
    "unknown key": (SOUND + "seperator: x\n", "unknown key 'seperator'; the keys are train"),
    "twice": (SOUND + "label: a\n", "the key 'label' stands twice"),
    "not YAML": (SOUND + "labels: [a\n", "not YAML"),
    "a list": ("- a\n- b\n", "must hold lines such as"),
    "name": (SOUND + "name: my task\n", "must be letters and digits, such as mytask"),
    "name of the table": (SOUND + "name: SST2\n", "name SST2 is that of a task of this project"),
    "three texts": (SOUND.replace("[a, b]", "[a, b, c]"), "text must name one column or two"),
    "label as text": (SOUND.replace("[a, b]", "[a, colour]"), "other than the label's"),
    "kind": (SOUND + "kind: binary\n", "kind must be one of single, multi, regression, got binary"),
    "labels of scores": (SOUND + "kind: regression\nlabels: [a, b]\n", "a regression has no labels"),
    "one label": (SOUND + "labels: red\n", "the label red alone"),
    "label twice": (SOUND + "labels: [red, red]\n", "labels must be different words"),
    "metric": (SOUND + "metrics: [bleu]\n", "metrics must be some of accuracy"),
    "names": (SOUND + "labels: [blue, green, red]\nnames: [x]\n", "names are one for each of labels"),
    "dev and split": (SOUND + "split: 0.1\n", "there is a file of dev"),
    "split": (SOUND.replace("dev: dev.csv", "split: 1.5"), "split must be between 0 and 1"),
    "a name with a tab": (SOUND + 'labels: [a, b]\nnames: ["x\\ty", z]\n', "a class may hold no tab"),
    "seed": (SOUND + "split_seed: 1\n", "has no effect without split"),
    "no train": (SOUND.replace("train: train.csv\n", ""), "no training rows"),
    "no file": (SOUND.replace("train.csv", "nowhere.csv"), "nowhere.csv is not there"),
    "format": (SOUND.replace("train.csv", "train.xlsx"), "must be a file that ends with .csv"),
    "mapping": (SOUND + "metrics: {a: b}\n", "metrics must be different words"),
}


@pytest.mark.parametrize("what", WRONG_TASKS)
def test_a_task_file_that_cannot_be_meant_is_refused_in_one_line(what, own, refused):
    text, told = WRONG_TASKS[what]
    file = own("pair")
    file.write_text(text, encoding="utf-8")
    message = refused("run_fine_tune", "--experiment", "t", "--task", file, *TUNE)
    assert told in message and str(file.parent) in message


def test_two_tasks_of_one_name_are_refused_with_both(own, run, refused, encoder, data):
    file = own("pair")
    base = ("--ptrain_ver", encoder, *TUNE)
    run("run_fine_tune", "--experiment", "t", "--task", file, *base)
    named.READ.clear()
    text = file.read_text()
    file.write_text(text + "labels: [blue, green, red, grey]\n", encoding="utf-8")
    told = refused("run_fine_tune", "--experiment", "u", "--task", file, *base)
    assert str(file) in told and str(data.run("t", "mine") / "task.json") in told and "another name" in told
    file.write_text(text.replace("test: test.csv\n", ""), encoding="utf-8")
    run("run_fine_tune", "--experiment", "u", "--task", file, *base)  # its columns and classes are the same
    named.READ.clear()
    told = refused("run_fine_tune", "--experiment", "v", "--task", "mine", *base)
    assert str(data.run("t", "mine")) in told and str(data.run("u", "mine")) in told
    for name in ("u", "t"):  # a run knows its own
        run("run_fine_tune_eval", "--experiment", name, "--task", "mine", "--device_id", -1)
    run("run_fine_tune", "--experiment", "v", "--task", data.run("t", "mine") / "task.json", *base)


def test_a_teacher_that_learned_what_is_held_out_now_is_refused(own, run, refused, encoder, data):
    file = own("pair")
    file.write_text(file.read_text().replace("dev: dev.csv\n", ""), encoding="utf-8")
    base = ("--task", file, "--split", 0.25, "--device_id", -1)
    run("run_fine_tune", "--experiment", "t", *base, "--ptrain_ver", encoder, *TUNE)
    told = refused("run_kd_distil", "--experiment", "s", "--teacher_exp", "t", *base, "--split_seed", 8)
    assert (
        "--split 0.25 --split_seed 8: the teacher t_bert_mine held out other rows (--split 0.25 --split_seed 42)"
        in told
    )


@pytest.mark.parametrize("placeholder", ["-1", "?"])
def test_labels_that_stand_for_none_are_none(placeholder, own):
    file = own("pair")
    test = file.parent / "test.csv"
    header, *rows = test.read_text(encoding="utf-8").splitlines()
    label = "" if "colour" in header else ",colour"
    lines = [header + label, *(f"{row},{placeholder}" if label else row for row in rows)]
    test.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [row.label for row in read_split(task_named(str(file)), "test")] == [None] * len(rows)


def test_a_teacher_with_its_classes_in_another_order_is_refused(own, run, refused, encoder, data):
    file = own("pair")
    run("run_fine_tune", "--experiment", "teacher", "--task", file, "--ptrain_ver", encoder, *TUNE)
    encoder_json = data.run("teacher", "mine") / "encoder.json"
    config = json.loads(encoder_json.read_text())
    config["id2label"] = {"0": "red", "1": "green", "2": "blue"}
    encoder_json.write_text(json.dumps(config))
    told = refused("run_kd_distil", "--experiment", "s", "--teacher_exp", "teacher", "--task", "mine", *QUICK)
    assert "red, green, blue" in told and "blue, green, red" in told


def test_parquet_without_its_package_says_what_to_install(own, monkeypatch):
    file = own("pair", "jsonl")
    file.write_text(SOUND.replace("csv", "parquet"), encoding="utf-8")
    for name in ("train", "dev"):
        (file.parent / f"{name}.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"train.parquet: Parquet needs one more package: pip install pyarrow"):
        task_named(str(file))


def test_the_cache_follows_the_content_not_the_path(own, run, encoder, data):
    file = own("pair")
    run("run_fine_tune", "--experiment", "t", "--task", file, "--ptrain_ver", encoder, *TUNE)
    before = {path.name for path in (data.root / "cache").iterdir()}
    moved = file.parent.rename(data.root / "moved")
    run("run_fine_tune", "--experiment", "u", "--task", moved / file.name, "--ptrain_ver", encoder, *TUNE)
    assert {path.name for path in (data.root / "cache").iterdir()} == before
    write(moved / "train.csv", 24, 1, a=one, b=two, colour=colour)
    run("run_fine_tune", "--experiment", "v", "--task", moved / file.name, "--ptrain_ver", encoder, *TUNE)
    assert len({path.name for path in (data.root / "cache").iterdir()} - before) == 1


def test_the_tables_tasks_are_as_they_were():
    """Caches and banks of older versions are found by it."""
    assert [task.hidden() for task in TASKS.values()] == [
        ["-"] if task.name == "mnli" else [] for task in TASKS.values()
    ]
    assert "multi" not in repr(TASKS["sst2"]) and TASKS["stsb"].kind == "regression" and TASKS["mnli"].kind == "single"


def test_classes_that_look_alike():
    assert different_names(("Yes", "no", " yes", "yes", "NO")) == [("Yes", " yes", "yes"), ("no", "NO")]


MULTI = Task("m", "m", ("a",), "label", ("x", "y", "z"), multi=True)


def test_losses_of_several_labels_are_those_of_numpy():
    draw = np.random.default_rng(0)
    s, t, gold = draw.normal(size=(4, 3)), draw.normal(size=(4, 3)), draw.integers(0, 2, (4, 3)).astype(float)
    p, q, temperature = 1 / (1 + np.exp(-s)), None, 3.0
    hard = -(gold * np.log(p) + (1 - gold) * np.log(1 - p)).mean()
    assert hard_target_loss(torch.tensor(s), torch.tensor(gold)).item() == pytest.approx(hard)
    p, q = (1 / (1 + np.exp(-logits / temperature)) for logits in (s, t))
    soft = temperature**2 * (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))).mean()
    assert soft_target_loss(torch.tensor(s), torch.tensor(t), temperature, multi=True).item() == pytest.approx(soft)
    large = torch.tensor([[200.0, -200.0]])
    assert torch.isfinite(soft_target_loss(large, -large, 1.0, multi=True))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_resampled_f1_is_that_of_the_rows_that_were_drawn(shape):
    draw = np.random.default_rng(1)
    gold, guess = draw.integers(0, 2, (20, *shape)), draw.integers(0, 2, (2, 1, 20, *shape))
    found = statistics.resample_f1(gold, guess, resamples=5, seed=3)
    drawn = np.random.default_rng(3).multinomial(20, [1 / 20] * 20, size=5)
    for counts, scores in zip(drawn, found, strict=True):
        rows = np.repeat(np.arange(20), counts)
        want = [metric("micro_f1" if shape else "f1")(gold[rows], run[0, rows]) for run in guess]
        assert scores == pytest.approx(want)


def test_a_teacher_of_several_labels_is_refused_if_it_knows_none():
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 2, (400, 3)).astype(float)
    noisy = np.where(draw.random(gold.shape) < 0.2, 1 - gold, gold)
    assert fault(MULTI, gold, noisy, None) is None
    one = np.stack([noisy[:, 0], np.zeros(400), np.zeros(400)], 1)
    assert fault(MULTI, gold, one, None) is None
    for guess in (draw.permutation(gold), np.zeros((400, 3))):
        assert "nothing to do with the labels" in fault(MULTI, gold, guess, None)
    assert "0.900 is recorded" in fault(MULTI, gold, noisy, 0.9)


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_the_better_order_of_classes_is_the_best_of_all(classes):
    draw = np.random.default_rng(classes)
    order = draw.permutation(classes)
    gold = draw.integers(0, classes, 300)
    guess = np.where(draw.random(300) < 0.2, draw.integers(0, classes, 300), order.argsort()[gold])
    best = max(itertools.permutations(range(classes)), key=lambda way: (np.array(way)[guess] == gold).sum())
    found = better_order(classes, gold, guess)
    assert tuple(found) == best if (order != range(classes)).any() else found is None


def test_many_classes_are_put_in_order_at_once():
    gold = np.arange(600) % 40
    assert better_order(40, gold, (gold + 1) % 40) == [(number - 1) % 40 for number in range(40)]


def test_decisions_and_metrics_of_several_labels():
    logits = torch.tensor([[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0], [0.1, 3.0, -2.0]])
    guess = decide(MULTI, logits)
    assert guess.tolist() == [[1, 0, 1], [0, 0, 0], [1, 1, 0]]
    gold = np.array([[1.0, 0, 1], [0, 1, 0], [1, 1, 1]])
    assert metric("accuracy")(gold, guess) == pytest.approx(1 / 3)
    assert metric("micro_f1")(gold, guess) == pytest.approx(2 * 4 / (4 + 6))
    assert metric("macro_f1")(gold, guess) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
