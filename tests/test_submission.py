"""Tests of GLUE's submission: written from real runs, and every kind of broken zip is refused in one line."""

import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import HEADERS, unlabelled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_archive import packed

from fine_tune.scores.submission import (
    HEADER,
    LABELS,
    LARGEST,
    ROWS,
    check_submission,
    check_table,
    constant,
    write_submission,
)
from fine_tune.tasks.table import TASKS

CASES = {"fast": 50, "nightly": 1000}[os.environ.get("HYPOTHESIS_PROFILE", "fast")]
fuzz = settings(
    max_examples=CASES, deadline=None, derandomize=CASES == 50, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


TRUE = dict(ROWS)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """QQP has 1,500 rows here: its 390,965 would take most of the time."""
    monkeypatch.setitem(ROWS, "QQP.tsv", 1_500)


@pytest.fixture
def tables() -> dict[str, bytes]:
    """Sound tables, constant."""
    return {name: constant(name) for name in ROWS}


@pytest.fixture
def told(tmp_path: Path, refused: Callable[..., str]) -> Callable[[bytes], str]:
    """Have the script refuse a zip, and give what it says after the zip's name."""

    def check(content: bytes) -> str:
        file = tmp_path / "sent.zip"
        file.write_bytes(content)
        message = refused("make_submission", "--check", file)
        assert message.startswith(f"{file}: ")
        return message.removeprefix(f"{file}: ")

    return check


def lines_changed(content: bytes, at: int, *lines: bytes, instead: int = 1) -> bytes:
    """Put lines in the place of some; the header is line 1."""
    every = content.split(b"\n")
    every[at - 1 : at - 1 + instead] = lines
    return b"\n".join(every)


@pytest.mark.parametrize("cut", [0, 3, 4000, -1, -30], ids=["empty", "three bytes", "half", "a byte", "its end"])
def test_what_is_no_whole_zip_is_refused(tables, told, cut):
    assert "not a zip, truncated or damaged in its table of contents" in told(packed(tables)[:cut])


def test_other_files_are_no_zip(told):
    assert "not a zip" in told(b"index\tprediction\n0\t1\n")


def test_a_damaged_member_is_refused(tables, told):
    content = bytearray(packed(tables, zipfile.ZIP_STORED))
    content[200] ^= 1
    assert told(bytes(content)).startswith("not a zip, truncated or damaged in CoLA.tsv (Bad CRC-32")


@pytest.mark.parametrize("name", ROWS)
def test_a_missing_file_is_refused(tables, told, name):
    left = {other: content for other, content in tables.items() if other != name}
    assert told(packed(left)).startswith(f"{name} missing; GLUE wants all of CoLA.tsv, SST-2.tsv")


@pytest.mark.parametrize("name", ["README.md", "sst-2.tsv", "BoolQ.jsonl", "diagnostic.tsv", ".DS_Store"])
def test_an_unexpected_file_is_refused(tables, told, name):
    assert told(packed({**tables, name: b"x"})).startswith(f"{name!r} is no file of GLUE's; remove it, or name it as")


@pytest.mark.parametrize("name", ["submission/", "submission/SST-2.tsv", "__MACOSX/._SST-2.tsv", "/SST-2.tsv"])
def test_a_folder_is_refused(tables, told, name):
    assert told(packed({**tables, name: b""})) == (
        f"{name!r} is a folder or in one; zip the files themselves, with no folder"
    )


def test_a_file_that_is_there_twice_is_refused(tables, told):
    buffer = io.BytesIO(packed(tables))
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("WNLI.tsv", tables["WNLI.tsv"])
    assert told(buffer.getvalue()) == "WNLI.tsv is there twice; keep the one that is meant"


def test_what_unpacks_to_too_much_is_refused(tables, told):
    assert told(packed({**tables, "WNLI.tsv": bytes(10**7)})).startswith(
        "WNLI.tsv unpacks to 10,000,000 bytes, its 146"
    )


def test_a_zip_that_is_too_large_is_refused_before_it_is_read(tmp_path, refused):
    with (tmp_path / "sent.zip").open("wb") as handle:
        handle.truncate(10**12)  # the disk holds none of it
    message = refused("make_submission", "--check", tmp_path / "sent.zip")
    assert f"1,000,000,000,000 bytes, GLUE's tables take less than {LARGEST:,}" in message


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_packing_is_refused(tables, told, method):
    assert told(packed(tables, method)).startswith("CoLA.tsv is encrypted, or packed in an unusual way")


def test_an_encrypted_file_is_refused(tables, told):
    content = bytearray(packed(tables))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert told(bytes(content)).startswith("CoLA.tsv is encrypted, or packed in an unusual way")


@pytest.mark.parametrize("header", [b"id\tlabel", b"index,prediction", b"Index\tPrediction", b"0\t0", b""])
def test_a_wrong_header_is_refused(tables, told, header):
    sent = {**tables, "RTE.tsv": lines_changed(tables["RTE.tsv"], 1, header)}
    assert told(packed(sent)) == f"RTE.tsv:1: the header is {header.decode()!r}; it must be {HEADER!r}"


def test_too_few_rows_are_refused(tables, told):
    short = tables["QQP.tsv"][: tables["QQP.tsv"].index(b"\n1000\t") + 1]
    want = "QQP.tsv:1001: it ends after 1,000 rows, GLUE's test split has 1,500; predict all of that split"
    assert told(packed({**tables, "QQP.tsv": short})) == want


@pytest.mark.parametrize("content", [b"", b"index\tprediction", b"index\tprediction\n"])
def test_a_table_without_rows_is_refused(tables, told, content):
    assert told(packed({**tables, "AX.tsv": content})).startswith("AX.tsv:1: ")


def test_too_many_rows_are_refused(tables, told):
    sent = {**tables, "WNLI.tsv": tables["WNLI.tsv"] + b"146\t0\n"}
    assert told(packed(sent)) == "WNLI.tsv:148: more than the 146 rows of GLUE's test split; predict that split"


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ((4, ()), "MRPC.tsv:4: index 2 is missing, '3' stands there; write every index, from 0 on"),
        ((4, (b"1\t0",)), "MRPC.tsv:4: index '1' is there twice; keep one row of each index"),
        ((4, (b"3\t0", b"2\t1"), 2), "MRPC.tsv:4: index '3' stands where 2 belongs; sort the rows by their index"),
        ((4, (b"02\t0",)), "MRPC.tsv:4: index 2 is missing, '02' stands there; write every index, from 0 on"),
        ((4, (b"test-2\t0",)), "MRPC.tsv:4: index 2 is missing, 'test-2' stands there; write every index, from 0 on"),
        ((2, (b"1\t0",)), "MRPC.tsv:2: index 0 is missing, '1' stands there; write every index, from 0 on"),
        ((2, (b"9" * 5000 + b"\t0",)), f"MRPC.tsv:2: index 0 is missing, '{'9' * 40}..' stands there; write every "
         "index, from 0 on"),
    ],
    ids=["missing", "twice", "unordered", "zero before", "no number", "counted from 1", "endless"],
)  # fmt: skip
def test_wrong_indices_are_refused(tables, told, change, want):
    at, lines, *instead = change
    content = lines_changed(tables["MRPC.tsv"], at, *lines, instead=instead[0] if instead else 1)
    assert told(packed({**tables, "MRPC.tsv": content})) == want


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("QNLI.tsv", "0"), ("RTE.tsv", "1"), ("MNLI-m.tsv", "not_entailment"), ("AX.tsv", "2"), ("SST-2.tsv", "2"),
        ("SST-2.tsv", "positive"), ("CoLA.tsv", "1.0"), ("WNLI.tsv", "-1"), ("QNLI.tsv", "entailment "),
        ("MNLI-mm.tsv", "Neutral"), ("CoLA.tsv", ""),
    ],
)  # fmt: skip
def test_a_label_of_another_task_is_refused(tables, told, name, word):
    sent = {**tables, name: lines_changed(tables[name], 9, f"7\t{word}".encode())}
    labels = ", ".join(LABELS[name])
    assert told(packed(sent)) == f"{name}:9: {word!r} is no label of this task; write one of {labels}"


@pytest.mark.parametrize("word", ["5.001", "-0.1", "nan", "inf", "1e999", "three", "", "1_0", " 3", "3,5", "٣"])
def test_a_score_out_of_range_or_no_number_is_refused(tables, told, word):
    sent = {**tables, "STS-B.tsv": lines_changed(tables["STS-B.tsv"], 3, f"1\t{word}".encode())}
    assert told(packed(sent)) == f"STS-B.tsv:3: {word!r} is no score; write a number of 0 to 5"


@pytest.mark.parametrize("word", ["0", "5", "5.0", "2.34567", "1e-05", "0.000"])
def test_scores_may_be_spelled_as_programs_do(tables, word):
    check_table("STS-B.tsv", lines_changed(tables["STS-B.tsv"], 3, f"1\t{word}".encode()), "x")


@pytest.mark.parametrize("row", ["5", "5\t0\t0", "5 0", "5,0", '"5\t0'])
def test_other_columns_are_refused(tables, told, row):
    sent = {**tables, "WNLI.tsv": lines_changed(tables["WNLI.tsv"], 7, row.encode())}
    message = told(packed(sent))
    assert message.startswith("WNLI.tsv:7: ") and ("columns; write" in message or "index 5 is missing" in message)


@pytest.mark.parametrize("at", [2, 100, 148])
def test_a_blank_line_is_refused(tables, told, at):
    sent = {**tables, "WNLI.tsv": lines_changed(tables["WNLI.tsv"], at, b"", instead=0) + b"\n" * (at == 148)}
    assert told(packed(sent)).startswith(f"WNLI.tsv:{at}: a blank line; write")


def test_line_ends_of_windows_are_refused(tables, told):
    sent = {**tables, "SST-2.tsv": tables["SST-2.tsv"].replace(b"\n", b"\r\n")}
    assert told(packed(sent)) == "SST-2.tsv:1: a carriage return; end lines as Unix does, with a line feed alone"


def test_a_byte_order_mark_is_refused(tables, told):
    sent = {**tables, "SST-2.tsv": b"\xef\xbb\xbf" + tables["SST-2.tsv"]}
    assert told(packed(sent)) == "SST-2.tsv:1: a byte order mark before the header; save it in UTF-8 without one"


def test_another_encoding_is_refused(tables, told):
    sent = {**tables, "SST-2.tsv": lines_changed(tables["SST-2.tsv"], 5, b"3\t\xe9")}
    assert told(packed(sent)).startswith("SST-2.tsv:5: not UTF-8 (")
    sent["SST-2.tsv"] = tables["SST-2.tsv"].decode().encode("utf-16")
    assert told(packed(sent)).startswith("SST-2.tsv:1: not UTF-8 (")


def test_the_number_of_rows_is_that_of_all_tests_together():
    """GLUE's ten tests have 425,205 rows, and the diagnostic set 1,104; labels are those of the table of tasks."""
    assert sum(TRUE.values()) == 425_205 + 1_104 and len(TRUE) == 11 and LABELS.keys() == ROWS.keys()
    ours = {name for task in TASKS.values() for _, name in task.submission}
    assert ROWS.keys() - ours == {"WNLI.tsv", "AX.tsv"} and ours - ROWS.keys() == {"BoolQ.jsonl", "SAMPLE.tsv"}


def test_what_is_written_passes_and_has_the_same_bytes_again(tables, tmp_path, run, capsys):
    for name in ("a.zip", "b.zip"):
        write_submission(tmp_path / name, tables)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    run("make_submission", "--check", tmp_path / "a.zip")
    assert "as GLUE takes it, 11 files, 36,844 rows" in capsys.readouterr().out


def predictions(task: str, data, words: Callable[[int], str]) -> dict[str, bytes]:
    """Write predictions into the folder of a run `x`, as the scripts do."""
    data.run("x", task).mkdir(parents=True, exist_ok=True)
    written = {}
    for _, name in TASKS[task].submission:
        lines = [HEADER, *(f"{row}\t{words(row)}" for row in range(ROWS[name]))]
        written[name] = "\n".join([*lines, ""]).encode()
        (data.run("x", task) / name).write_bytes(written[name])
    return written


def test_predictions_of_several_tasks_and_both_of_mnli_are_packed_as_they_are(data, run, tmp_path, capsys):
    wrote = predictions("mnli", data, lambda row: TASKS["mnli"].labels[row % 3])
    wrote |= predictions("stsb", data, lambda row: f"{row % 50 / 10:.3f}")
    run("make_submission", "--experiment", "x", "--tasks", "mnli,STS-B", "--fill", "--out", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == list(ROWS)
        for name in ROWS:
            assert archive.read(name) == wrote.get(name, constant(name))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "NO RUN: all predictions are" in line] == sorted(
        ROWS.keys() - wrote.keys(), key=list(ROWS).index
    )
    assert any(re.match(r"MNLI-mm\.tsv +9,847 rows +/.*x_bert_mnli/MNLI-mm\.tsv", line) for line in lines)


@pytest.mark.slow
def test_predictions_of_a_run_come_through(data, teacher, run, tmp_path, monkeypatch):
    """A tiny run predicts a test split of the official size; nothing changes on the way into the zip."""
    monkeypatch.setitem(ROWS, "QQP.tsv", TRUE["QQP.tsv"])
    rows = [HEADERS["sst2"][1], *(unlabelled("sst2", row) for row in range(ROWS["SST-2.tsv"]))]
    data.file("SST-2/test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    ask = ("--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    run("generate_test_prediction", *ask)
    logits = pd.read_csv(teacher / "prediction_test-4.tsv", sep="\t")
    state = torch.load(teacher / "model-4.pt")
    bias = next(name for name in state if name.endswith("linear_layer.bias"))
    state[bias][1] += (logits["logit_0"] - logits["logit_1"]).median()  # else it says the same of every row
    torch.save(state, teacher / "model-4.pt")
    run("generate_test_prediction", *ask)
    said = (teacher / "SST-2.tsv").read_bytes()
    assert 900 < said.count(b"\t1\n") < 922 and said.count(b"\n") == 1822
    out = tmp_path / "out.zip"
    run("make_submission", "--experiment", "teacher", "--tasks", "sst2", "--fill", "--out", out)
    with zipfile.ZipFile(out) as archive:
        assert archive.read("SST-2.tsv") == said
    run("make_submission", "--check", out)


ASK = ("--experiment", "x", "--tasks")


def test_predictions_of_part_of_a_test_split_are_refused_and_nothing_is_written(data, teacher, run, tmp_path, refused):
    run("generate_test_prediction", "--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    out = tmp_path / "out.zip"
    ask = ("--experiment", "teacher", "--tasks", "sst2", "--fill", "--out", out)
    want = f"{out}: SST-2.tsv:7: it ends after 6 rows, GLUE's test split has 1,821; predict all of that split"
    assert refused("make_submission", *ask) == want
    out.write_bytes(b"mine")
    assert "1,821" in refused("make_submission", *ask, "--overwrite")
    assert out.read_bytes() == b"mine" and not list(tmp_path.glob(".*part"))


def test_a_zip_that_is_there_is_kept(data, run, tmp_path, refused):
    predictions("sst2", data, lambda row: str(row % 2))
    out = tmp_path / "out.zip"
    out.write_bytes(b"mine")
    ask = (*ASK, "sst2", "--fill", "--out", out)
    assert refused("make_submission", *ask).endswith("pass --overwrite to replace a file")
    assert out.read_bytes() == b"mine"
    run("make_submission", *ask, "--overwrite")
    run("make_submission", "--check", out)
    assert "exists" in refused("make_submission", *ask[:-1], tmp_path, "--overwrite")


def test_without_fill_all_tasks_must_be_there(data, refused, tmp_path):
    predictions("sst2", data, lambda row: "1")
    message = refused("make_submission", *ASK, "sst2", "--out", tmp_path / "out.zip")
    assert message.startswith("GLUE wants CoLA.tsv, MRPC.tsv,") and message.endswith("or --fill them with constants")
    assert not (tmp_path / "out.zip").exists()


def test_a_task_without_predictions_is_refused_with_the_command_that_writes_them(data, refused, tmp_path):
    predictions("mnli", data, lambda row: "neutral")
    (data.run("x", "mnli") / "MNLI-mm.tsv").unlink()
    message = refused("make_submission", *ASK, "mnli", "--fill", "--out", tmp_path / "out.zip")
    command = "generate_test_prediction.py --experiment x --model bert --task mnli --dataset test_mismatched"
    assert message == f"{data.run('x', 'mnli') / 'MNLI-mm.tsv'} is not there; write it with: python {command}"


@pytest.mark.parametrize("task", ["boolq", "sample", "wnli", "ax", ""])
def test_a_task_that_is_not_glues_is_refused(data, refused, tmp_path, task):
    predictions("sst2", data, lambda row: "1")
    message = refused("make_submission", *ASK, f"sst2,{task}", "--fill", "--out", tmp_path / "out.zip")
    assert message == (
        f"--tasks {task!r}: GLUE takes sst2, qnli, mnli, mrpc, qqp, rte, cola, stsb; WNLI and AX have no runs, "
        "--fill writes them; BoolQ is SuperGLUE's"
    )


@pytest.mark.parametrize(
    ("flags", "want"),
    [
        ((), "are needed to write a zip; or --check ZIP"),
        (("--experiment", "x", "--tasks", "sst2"), "--out are needed to write a zip"),
        (("--check", "x.zip", "--fill"), "it takes no other flag"),
        (("--check", "absent.zip"), "No such file or directory: 'absent.zip'"),
        (("--check", "."), "Is a directory: '.'"),
    ],
)
def test_other_commands_are_refused(refused, flags, want):
    assert want in refused("make_submission", *flags)


SMALL = {name: b"%s\n0\t%s\n" % (HEADER.encode(), (LABELS[name] or ("2.5",))[0].encode()) for name in ROWS}
NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
ODD = ["", "\n", "\t", "\r", "\ufeff", "\x00", "0", "-1", "1e9", "nan", "entailment", "é", "index\tprediction\n"]


@given(cases=st.data())
@fuzz
def test_damaged_zips_are_refused_or_still_sound(cases):
    """A few bytes, names or rows are changed; the fault is told in words, or there is none: the tables are the same."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ROWS:
            patch.setitem(ROWS, name, 1)
        sent = dict(SMALL)
        if cases.draw(st.booleans()):
            name = cases.draw(st.sampled_from(list(ROWS)))
            at = cases.draw(st.integers(0, len(sent[name])))
            odd = cases.draw(st.sampled_from(ODD)).encode() + cases.draw(st.binary(max_size=4))
            sent[name] = sent[name][:at] + odd + sent[name][at + cases.draw(st.integers(0, 4)) :]
        if cases.draw(st.booleans()):
            sent[cases.draw(NAME | st.sampled_from(["a/", "../x", "SST-2.TSV", "C:\\x"]))] = b"x"
        content = bytearray(packed(sent, cases.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))))
        for _ in range(cases.draw(st.integers(0, 3))):
            at = cases.draw(st.integers(0, len(content)))
            content[at : at + cases.draw(st.integers(0, 8))] = cases.draw(st.binary(max_size=8))
        try:
            check_submission(bytes(content), "x.zip")
        except ValueError as error:
            assert str(error).startswith("x.zip: ") and "\n" not in str(error), repr(error)
            assert bytes(content) != packed(SMALL)
        else:
            with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
                for name in ROWS:
                    check_table(name, archive.read(name), name)
                assert sorted(archive.namelist()) == sorted(ROWS)
