"""Tests of the Korean data, vectors and encoder, made from a dozen rows."""

import dataclasses
import os
import subprocess
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import transformers

from fine_tune.glove.korean import CLOVA, VECTORS, KoreanConfig, prepare, word_pieces, write_encoder
from fine_tune.glove.vectors import read_vectors
from fine_tune.path import PROJECT
from glove_student import prepare_korean

TEXTS = ("정말 재미있는 영화였다", "지루하고 시간이 아까운 영화", "배우의 연기가 훌륭했다", "ㅋㅋ 최고!!")
ROWS = "".join(f"{text}\t{number % 2}\n" for number, text in enumerate(TEXTS * 3))
TINY = KoreanConfig(word_dimension=6, word_epochs=1, pieces=150, layers=1, width=8, heads=2, positions=64)
packages = pytest.mark.skipif(
    not (find_spec("kiwipiepy") and find_spec("gensim")), reason="kiwipiepy or gensim is not installed"
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(tmp_path, ROWS)


def pack(folder: Path, train: str, splits: tuple[str, ...] = ("train", "valid", "test")) -> Path:
    file = folder / "clova_sentiments.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for split in splits:
            zipped.writestr(f"clova_sentiments/{split}.txt", train if split == "train" else ROWS)
    return file


@packages
@pytest.mark.slow
def test_everything_is_made_once_and_in_another_process_the_same(tmp_path: Path, archive: Path) -> None:
    """The script takes relative paths of its caller."""
    command = ["bash", PROJECT / "scripts" / "prepare_korean.sh"]
    command += [f"--{name}={value}" for name, value in dataclasses.asdict(TINY).items()]
    variables = {"KOREAN_ZIP": archive.name, "GLOVE_DIR": "one"}
    for word in ("made", "already there"):
        told = subprocess.run(command, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True)
        assert told.stdout.count(f": {word}\n") == 4, told.stderr
    one, two = tmp_path / "one", tmp_path / "two"
    assert set(prepare(str(archive), two, TINY).values()) == {True}
    first, second = ({f.relative_to(to): f.read_bytes() for f in to.rglob("*") if f.is_file()} for to in (one, two))
    assert first == second and len(first) == 11 and not [file for file in first if file.name.startswith(".")]

    data = one / "data"
    assert (data / "clova_sentiments" / "train.txt").read_text(encoding="utf-8") == ROWS
    made = (data / "clova_sentiments_morph" / "test.txt").read_text(encoding="utf-8").splitlines()
    assert made[0].startswith("정말 재미있 는 영화 이") and [line[-2:] for line in made] == ["\t0", "\t1"] * 6
    words = {word for line in made for word in line.split("\t")[0].split(" ")}
    vectors = read_vectors(one / "embeddings" / VECTORS)
    assert set(vectors.words) == words and vectors.dimension == 6  # each occurs three times


def test_the_encoder_keeps_hangul(tmp_path: Path) -> None:
    write_encoder([["영화", "가", "아깝", "보", "ᆫ", "É", "É가", "ㅋㅋ"]] * 3, TINY, tmp_path)
    tokenizer, model = (kind.from_pretrained(tmp_path) for kind in (transformers.AutoTokenizer, transformers.AutoModel))
    assert tokenizer.tokenize("영화 가 아깝 ᆫ É가 보 ㅋㅋ") == ["영화", "가", "아깝", "ᆫ", "É가", "보", "ㅋㅋ"]
    assert tokenizer.decode(tokenizer("영화 가 É").input_ids, skip_special_tokens=True) == "영화 가 É"
    assert model.config.vocab_size == len(tokenizer) and model.config.num_hidden_layers == 1
    assert tokenizer.is_fast and tokenizer.model_max_length == model.config.max_position_embeddings == 64


def test_the_vocabulary_has_every_character_and_no_more_than_fits() -> None:
    rows = [["É", "ᆫ데", "영화"], ["영화", "영화관"]]
    pieces = word_pieces(rows, 30)
    assert list(pieces.values()).count(0) == 1 and pieces["[PAD]"] == 0 and sorted(pieces.values())[-1] < 30
    assert {"É", "ᆫ", "##데", "영화"} <= set(pieces) and word_pieces(rows, 30) == pieces
    with pytest.raises(ValueError, match="--pieces 5: .* raise it"):
        word_pieces(rows, 5)


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        (ROWS + "둘\t셋\t1\n", r"train\.txt:13: .*2 texts"), ("하나\t둘\t1\n", r"train\.txt:1: .*TAB inside"),
        (ROWS + "줄\n끝\t1\n", r"train\.txt:13: .*0 TABs"), (ROWS + "\t1\n", r"train\.txt:13: .*empty"),
        ("", r"train\.txt is empty"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_are_named_and_leave_nothing(tmp_path: Path, train: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        prepare(str(pack(tmp_path, train)), tmp_path / "out", TINY)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_archives_that_cannot_be(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="KOREAN_ZIP"):
        prepare("", out, TINY)
    with pytest.raises(FileNotFoundError, match=r"no\.zip is not there"):
        prepare(str(tmp_path / "no.zip"), out, TINY)
    monkeypatch.chdir(tmp_path)
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(ValueError, match="truncated or damaged"):
        prepare(archive.name, out, TINY)
    with pytest.raises(ValueError, match=r"has no clova_sentiments/test\.txt"):
        prepare(str(pack(tmp_path, ROWS, ("train", "valid"))), out, TINY)
    (out / "data" / CLOVA.folder).mkdir()
    with pytest.raises(ValueError, match="has no train.txt; move the folder away"):
        prepare(str(archive), out, TINY)


@pytest.mark.parametrize("flags", [["--width=10", "--heads=4"], ["--pieces=0"], ["--seed=-1"], ["--source=no.zip"]])
def test_bad_flags_are_one_line_and_code_2(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        prepare_korean.main([*flags, "--folder", str(tmp_path)])
    assert end.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
