"""Tests of the task table and of the reader of the official formats."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fine_tune.path import PROJECT, task_dir
from fine_tune.tasks.named import task_named
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import SLICES, TASKS

MNLI_HEADER = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\t"
    "sentence1\tsentence2"
)
STSB_HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
PARSES = "fiction\t(a)\t(b)\t(A)\t(B)"

# One row of every labelled and every unlabelled split in the real format, and what reading them must give.
OFFICIAL: dict[str, tuple[str, str, tuple[str, ...], float]] = {
    "sst2": ("sentence\tlabel\na fine film \t1", "index\tsentence\n0\ta fine film ", ("a fine film ",), 1),
    "qnli": (
        "index\tquestion\tsentence\tlabel\n0\tWho?\tHe did.\tnot_entailment",
        "index\tquestion\tsentence\n0\tWho?\tHe did.",
        ("Who?", "He did."), 1,
    ),
    "mnli": (
        f"{MNLI_HEADER}\tlabel1\tgold_label\n0\t1\t1n\t{PARSES}\tA man.\tA cat.\tneutral\tcontradiction",
        f"{MNLI_HEADER}\n0\t1\t1n\t{PARSES}\tA man.\tA cat.",
        ("A man.", "A cat."), 2,
    ),
    "boolq": (
        '{"question": "is it so", "passage": "It -- It is so.", "idx": 0, "label": true}',
        '{"question": "is it so", "passage": "It -- It is so.", "idx": 0}',
        ("It -- It is so.", "is it so"), 1,
    ),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t70\t71\tOne .\tTwo .",
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t70\t71\tOne .\tTwo .",
        ("One .", "Two ."), 1,
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t21\t22\tWhy?\tHow?\t0",
        "id\tquestion1\tquestion2\n0\tWhy?\tHow?",
        ("Why?", "How?"), 0,
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment",
        "index\tsentence1\tsentence2\n0\tA.\tB.",
        ("A.", "B."), 0,
    ),
    "cola": ("gj04\t0\t*\tThey drank the pub.", "index\tsentence\n0\tThey drank the pub.", ("They drank the pub.",), 0),
    "stsb": (
        f"{STSB_HEADER}\tscore\n0\tcaptions\tMSRvid\t2012\t1\tnone\tnone\tA.\tB.\t3.800",
        f"{STSB_HEADER}\n0\tcaptions\tMSRvid\t2012\t1\tnone\tnone\tA.\tB.",
        ("A.", "B."), 3.8,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives an empty data folder."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path


def write(task: str, split: str, content: str | bytes, place: tuple[str, str] | None = None) -> Path:
    """Writes the file of a split, to the task's own folder unless another place is named."""
    folder, suffix = place or (TASKS[task].folder, TASKS[task].suffix)
    file = task_dir(folder) / f"{split}.{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def texts(task: str, split: str = "train") -> list[str]:
    """Returns the first text of every row."""
    return [row.text[0] for row in read_split(TASKS[task], split)]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n \n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_formats(name: str, bom: str, ending: str) -> None:
    """Every split of every task is read, whatever its line ends and its first bytes; test splits have no label."""
    task, (labelled, unlabelled, text, label) = TASKS[name], OFFICIAL[name]
    for split in task.splits:
        content = (labelled if task.is_labelled(split) else unlabelled) + ending
        write(name, split, bom + (content.replace("\n", "\r\n") if "\r" in ending else content))
        (row,) = read_split(task, split)
        assert (row.id, row.text) == ("0", text)
        assert row.label == (label if task.is_labelled(split) else None)


def test_table_has_the_official_folders_and_files() -> None:
    """The folders, splits and submission names are those of GLUE and SuperGLUE."""
    folders = {"SST-2", "QNLI", "MNLI", "BoolQ", "MRPC", "QQP", "RTE", "CoLA", "STS-B", "SAMPLE"}
    assert {task.folder for task in TASKS.values()} == folders
    for task in TASKS.values():
        assert task.splits[0] == "train"
        assert set(task.dev) <= set(task.splits)
        assert [split for split, _ in task.submission] == [
            split for split in task.splits if not task.is_labelled(split)
        ]
    assert (TASKS["stsb"].num_class, TASKS["mnli"].num_class, TASKS["sst2"].num_class) == (1, 3, 2)
    assert TASKS["stsb"].regression and not TASKS["sst2"].regression


def test_names() -> None:
    """GLUE's own spelling is understood, and another name is answered with the list."""
    assert [task_named(name).name for name in ("sst2", "SST-2", "STS-B", "CoLA")] == ["sst2", "sst2", "stsb", "cola"]
    with pytest.raises(ValueError, match=r"--task must be one of sst2, .*, sample, got 'wnli'"):
        task_named("wnli")


def test_nothing_is_quoted_or_missing() -> None:
    """Quotes are characters, `None` and `NA` are words, and only a line feed ends a line."""
    sentences = [
        '"a stray quote',
        'two "" here"',
        "None",
        "NA",
        "null",
        "nan",
        "a\u2028b",
        "a\x85b",
        "a\x0cb\x1cc",
        "ä 文 ",
    ]
    write("sst2", "train", "sentence\tlabel\n" + "".join(f"{sentence}\t0\n" for sentence in sentences))
    assert texts("sst2") == sentences
    rows = [{"passage": sentence, "question": "None", "label": False} for sentence in sentences]
    write("boolq", "train", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert texts("boolq") == sentences


def test_ids_are_those_of_the_file_or_row_numbers() -> None:
    """A row keeps the index that the file gives it; without one it is counted from 0."""
    write("rte", "test", "index\tsentence1\tsentence2\n7\tA\tB\n9\tC\tD\n")
    assert [row.id for row in read_split(TASKS["rte"], "test")] == ["7", "9"]
    write("cola", "train", "a\t1\t\tX\nb\t0\t*\tY\n")
    assert [row.id for row in read_split(TASKS["cola"], "train")] == ["0", "1"]


def test_mnli_rows_without_a_majority_are_dropped() -> None:
    """The gold label `-` says that the annotators did not agree."""
    write("mnli", "train", "sentence1\tsentence2\tgold_label\nA\tB\t-\nC\tD\tneutral\n")
    assert texts("mnli") == ["C"]


def test_mnli_in_json() -> None:
    """multinli_1.0 is read like GLUE's files."""
    row = {"sentence1": "A", "sentence2": "B", "annotator_labels": ["neutral"], "pairID": "1n"}
    lines = [json.dumps(row | {"gold_label": label}) for label in ("-", "entailment", "neutral", "contradiction")]
    write("mnli", "train", "\n".join(lines), ("mnli", "jsonl"))
    assert [row.label for row in read_split(TASKS["mnli"], "train")] == [0, 1, 2]


@pytest.mark.parametrize("split", [*TASKS["mnli"].splits, *SLICES])
@pytest.mark.parametrize("there", [("train", "train"), ("test_matched", "dev_mismatched")])
def test_mnli_in_two_layouts_is_refused(split: str, there: tuple[str, str]) -> None:
    """Whichever split is read, and whichever files are there: they may be of other rows."""
    ours = write("mnli", there[0], "sentence1\tsentence2\tgold_label\nC\tD\tneutral\n")
    also = write("mnli", there[1], "{}", ("mnli", "jsonl"))
    with pytest.raises(ValueError) as error:
        read_split(TASKS["mnli"], split)
    assert str(error.value) == (f"mnli is there in two layouts, {ours} and {also}: move the files of one of them away")


def test_mnli_is_read_in_the_layout_that_is_there() -> None:
    """Also where the split asked for is not: what gets it is told."""
    write("mnli", "train", '{"sentence1": "A", "sentence2": "B", "gold_label": "neutral"}', ("mnli", "jsonl"))
    with pytest.raises(FileNotFoundError, match=r"mnli/dev_matched.jsonl is not there; get it with: "):
        read_split(TASKS["mnli"], "dev_matched")


def test_broken_qqp_rows_are_skipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Rows that lack a field are known of QQP; a wrong label is still an error, and so is a short test row."""
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    broken = "1\t1\t2\tWhy?\n2\t3\t4\t\tHow?\t1\n3\t5\t6\tWho?\tWhen?\t\n"
    file = write("qqp", "train", f"{header}0\t1\t2\tA?\tB?\t1\n{broken}")
    with caplog.at_level(logging.WARNING):
        assert texts("qqp") == ["A?"]
    assert caplog.messages == [f"{file}: skipped 3 rows with missing fields"]
    write("qqp", "train", f"{header}0\t1\t2\tA?\tB?\t2\n")
    with pytest.raises(ValueError, match=r"train.tsv:2: unknown label '2'"):
        read_split(TASKS["qqp"], "train")
    write("qqp", "test", "id\tquestion1\tquestion2\n0\tA?\t\n1\tB?\n")
    with pytest.raises(ValueError, match=r"test.tsv:3: expected 3 columns, got 2"):
        read_split(TASKS["qqp"], "test")


SST2 = "sentence\tlabel\ngood\t1\n"
STSB = "sentence1\tsentence2\tscore\n"
BOOLQ = '{"passage": "P", "question": "Q", "label": true}\n'


@pytest.mark.parametrize(
    ("task", "content", "line", "reason"),
    [
        ("sst2", "text\tlabel\ngood\t1\n", 1, "missing column sentence; the header has text, label"),
        ("sst2", "index\tsentence\n0\tgood\n", 1, "missing column label; the header has index, sentence"),
        ("sst2", SST2 + "bad\n", 3, "expected 2 columns, got 1"),
        ("sst2", SST2 + "bad\t0\t0\n", 3, "expected 2 columns, got 3"),
        ("sst2", SST2 + "\nbad\t0\n", 3, "a blank line; remove it"),
        ("sst2", SST2 + " \t \nbad\t0\n", 3, "a blank line; remove it"),
        ("sst2", SST2 + "\r\nbad\t0\r\n", 3, "a blank line; remove it"),
        ("cola", "gj04\t1\t\tGood.\n\ngj04\t1\t\tGood.\n", 2, "a blank line; remove it"),
        ("sst2", SST2 + "bad\tno\n", 3, "unknown label 'no'; expected one of 0, 1"),
        ("sst2", SST2 + " \t0\n", 3, "empty text 'sentence'"),
        ("sst2", SST2.encode() + b"caf\xe9\t0\n", 3, "not UTF-8: invalid continuation byte at byte 3"),
        ("cola", "gj04\t1\t\tGood.\ngj04\t1\t\n", 2, "expected 4 columns, got 3"),
        (
            "mnli",
            "sentence1\tsentence2\tgold_label\nA\tB\tmaybe\n",
            2,
            "unknown label 'maybe'; expected one of entailment",
        ),
        ("qnli", "index\tquestion\tsentence\tlabel\n0\tA\tB\t1\n", 2, "unknown label '1'; expected one of entailment"),
        ("stsb", STSB + "A\tB\tfive\n", 2, "the score 'five' is not a number"),
        ("stsb", STSB + "A\tB\tnan\n", 2, "the score nan is not in 0..5"),
        ("stsb", STSB + "A\tB\t5.1\n", 2, "the score 5.1 is not in 0..5"),
        ("boolq", BOOLQ + "{\n", 2, "not JSON: "),
        ("boolq", BOOLQ + "\n" + BOOLQ, 2, "a blank line; remove it"),
        ("boolq", BOOLQ + " \n" + BOOLQ, 2, "a blank line; remove it"),
        ("boolq", BOOLQ + "[1]\n", 2, "expected a JSON object, got list"),
        ("boolq", BOOLQ + '{"passage": "P", "label": true}\n', 2, "missing text 'question'"),
        ("boolq", BOOLQ + '{"passage": 1, "question": "Q", "label": true}\n', 2, "missing text 'passage'"),
        ("boolq", BOOLQ + '{"passage": "P", "question": "Q"}\n', 2, "missing label 'label'"),
        ("boolq", BOOLQ + '{"passage": "P", "question": "Q", "label": "yes"}\n', 2, "unknown label 'yes'"),
    ],
)
def test_malformed_rows_are_located(task: str, content: str | bytes, line: int, reason: str) -> None:
    """A row that cannot be used ends the reading with file, line and reason."""
    file = write(task, "train", content)
    with pytest.raises(ValueError) as error:
        read_split(TASKS[task], "train")
    assert str(error.value).startswith(f"{file}:{line}: {reason}")


@pytest.mark.parametrize("content", ["", "\n\n", "sentence\tlabel\n"])
def test_file_without_rows(content: str) -> None:
    """An empty file, or a header alone, is no data."""
    file = write("sst2", "train", content)
    with pytest.raises(ValueError, match=f"{file}: no rows"):
        read_split(TASKS["sst2"], "train")


def test_missing_files_and_splits() -> None:
    """Data that is not there is answered with the command that gets it, a wrong split with the right ones."""
    with pytest.raises(
        FileNotFoundError, match=r"SST-2/train.tsv is not there; get it with: bash scripts/prepare_sst2.sh"
    ):
        read_split(TASKS["sst2"], "train")
    with pytest.raises(FileNotFoundError, match=r"python generate_sample_corpus.py"):
        read_split(TASKS["sample"], "train")
    with pytest.raises(ValueError, match=r"--dataset 'dev': mnli has the splits train, dev_matched, dev_mismatched"):
        read_split(TASKS["mnli"], "dev")


def test_importing_creates_nothing(data_dir: Path) -> None:
    """Importing the package makes no folder and does not load PyTorch."""
    folder = data_dir / "absent"
    modules = "fine_tune.tasks.table, fine_tune.flags.shared, fine_tune.tasks.download"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    variables = {**os.environ, "DATA_DIR": str(folder), "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=data_dir, env=variables, check=True)
    assert list(data_dir.iterdir()) == []
