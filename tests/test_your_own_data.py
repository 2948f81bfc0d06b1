"""The page on data of one's own: its commands run in order, as they stand there but for encoder, rows and epochs."""

import csv
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from test_document import random_encoder

from fine_tune.path import PROJECT
from fine_tune.tasks.sample_corpus import make_corpus

PAGE = PROJECT / "doc" / "your_own_data.md"
WIDTH = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
SHORT = {"--rows": "80", "--epoch": "1", "--lr": "1e-3"}


def commands(page: str) -> list[str]:
    """Give the commands of a page's shell blocks; one may go over several lines."""
    text = "".join(re.findall(r"^```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    return re.findall(r"^cat .*?^END$|^[^\n]+$", text, re.DOTALL | re.MULTILINE)


def words_of(command: str, variables: dict[str, str]) -> list[str]:
    """Cut a command into words, with its variables and short values."""
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    words = shlex.split(command, comments=True)
    return [SHORT.get(before, word) for before, word in zip(["", *words], words, strict=False)]


@pytest.mark.slow
def test_every_command_of_the_page(tmp_path, monkeypatch, run, capsys):
    pytest.importorskip("onnxscript", reason="needs: pip install -r requirements-export.txt")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("fine_tune.run.preflight.judge", lambda *_: None)  # of a random encoder no teacher comes
    words = sorted({word for text, _ in make_corpus(42, {"train": 80})["train"] for word in text.split()})
    random_encoder(tmp_path / "encoder", words, num_hidden_layers=4, **WIDTH)
    variables, ran = {"ENCODER": str(tmp_path / "encoder")}, []
    for command in commands(PAGE.read_text(encoding="utf-8")):
        if heredoc := re.match(r"cat > (\S+) <<'END'\n(.*)END$", command, re.DOTALL):
            Path(heredoc[1]).write_text(heredoc[2], encoding="utf-8")
        elif name := re.match(r"(\w+)=([^$]\S+)$", command):
            variables[name[1]] = name[2]
        elif python := re.search(r"(?:^echo (\".*?\") \| )?\bpython (\w+)\.py (.*)", command):
            given = tmp_path / "given"
            given.write_text(shlex.split(python[1])[0] + "\n" if python[1] else "", encoding="utf-8")
            with given.open(encoding="utf-8") as lines:
                monkeypatch.setattr(sys, "stdin", lines)
                capsys.readouterr()
                run(python[2], *words_of(python[3], variables))
            ran.append((python[2], capsys.readouterr().out))
        else:
            assert "install" in command, command
    told = dict(ran)
    assert list(told) == [
        "generate_sample_corpus", "run_fine_tune", "run_lad_distil", "export_model", "compare_runs", "predict",
    ]  # fmt: skip
    assert [line.split("|")[1:3] for line in told["compare_runs"].splitlines() if "int8" in line]
    answer = ran[-2][1].splitlines()
    assert answer[0] == "label\tnegative\tpositive" and answer[1].split("\t")[0] in ("negative", "positive")
    with Path("data/answers.tsv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file, delimiter="\t"))) == 81
    about = json.loads(Path(variables["MODEL"], "export.json").read_text(encoding="utf-8"))
    assert about["labels"] == ["negative", "positive"] and about["forms"]["onnx"]["difference"] < 1e-4
    assert {file.name for file in Path("data/reviews").iterdir()} == {"report.md", "report.csv", "report.png"}
