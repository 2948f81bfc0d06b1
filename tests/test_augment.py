"""Tests of the GloVe document's augmentation: samples, analyzers, the stream over rows, the script."""

import collections
import importlib.util
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fine_tune.glove import analyze, stream
from fine_tune.glove.analyze import Analyzer, analyzer_named
from fine_tune.glove.augment import samples
from fine_tune.glove.flags import AugmentConfig
from fine_tune.path import PROJECT

MASK = "[MASK]"
SCRIPT = "glove_student.augment_data"
FEW = AugmentConfig(n_iter=6)
ROWS = [f"{'the ' * (n % 3)}Film{n} was not bad{n % 5}\t{n % 2}" for n in range(40)]

SLOW = pytest.mark.slow


def draw(words: str, tags: str = "", by_tag: Any = None, seed: int = 0, **cfg: Any) -> list[tuple[str, ...]]:
    config = AugmentConfig(**{"p_mask": 0, "p_pos": 0, "p_ng": 0} | cfg)
    return samples(
        words.split(), tags.split() or ["-"] * len(words.split()), by_tag or {}, config, np.random.default_rng(seed)
    )


def by_length(texts: Any) -> Iterator[tuple[list[str], list[str]]]:
    return ((text.split(), [f"T{len(word)}" for word in text.split()]) for text in texts)


def load_by_length() -> analyze.Tag:
    return by_length


LENGTHS = Analyzer("lengths", load_by_length, analyze.always)


def augment(output: Path, rows: list[str] = ROWS, cfg: AugmentConfig = FEW, **options: Any) -> str:
    stream.augment_rows(lambda: iter(rows), len(rows), output, cfg, LENGTHS, **options)
    assert not [path for path in output.parent.iterdir() if path.name.startswith(f".{output.name}")]
    return output.read_text(encoding="utf-8")


def test_words_are_masked_and_replaced_at_their_rates():
    words, times = [f"w{n}" for n in range(50)], 2000
    made = draw(" ".join(words), "X " * 50, {"X": ["new", "other"]}, p_mask=0.2, p_pos=0.1, n_iter=times)[1:]
    assert len(made) == times  # so many words, no two samples alike
    kinds = [collections.Counter(sample[at] for sample in made) for at in range(50)]
    for kind in kinds:  # first and last word as any other; five standard deviations
        assert abs(kind[MASK] / times - 0.2) < 5 * (0.16 / times) ** 0.5
        assert abs((kind["new"] + kind["other"]) / times - 0.1) < 5 * (0.09 / times) ** 0.5
    total = sum(kinds, collections.Counter())
    assert abs(total["new"] / total["other"] - 1) < 0.1
    pairs = sum(sample[0] == sample[1] == MASK for sample in made) / times
    assert abs(pairs - 0.04) < 0.022  # words draw alone


def test_ngrams_have_the_rate_the_lengths_and_the_places_they_should():
    found = collections.Counter()
    for seed in range(6000):
        made = draw("a b c d", seed=seed, p_ng=0.5, max_ng=5, n_iter=1)
        found[" ".join(made[-1]).replace(MASK, "_")] += 1
    expected = collections.Counter({"a b c d": 0.5})
    for n in range(1, 6):
        size = min(n, 3)  # all words but one
        for start in range(5 - size):  # the last word is in one of them
            words = ["abcd"[at] if not start <= at < start + size else "_" for at in range(4)]
            expected[" ".join(words)] += 0.5 / 5 / (5 - size)
    assert set(found) == set(expected)
    for place, rate in expected.items():
        assert abs(found[place] / 6000 - rate) < 5 * (rate / 6000) ** 0.5, place
    assert draw("a b", p_ng=1) == [("a", "b")]


def test_a_word_is_replaced_by_words_of_its_tag_only():
    by_tag = {"N": ["film", "plot", "star"], "V": ["is", "was"]}
    made = draw("film is it", "N V J", by_tag, p_mask=0.2, p_pos=0.8, n_iter=300)
    assert {sample[0] for sample in made} == {"film", "plot", "star", MASK}
    assert {sample[1] for sample in made} == {"is", "was", MASK}
    assert {sample[2] for sample in made} == {"it", MASK}


def test_the_cap_counts_up_to_half():
    for length in range(1, 9):
        some = {"p_mask": 0.5, "p_pos": 0.4, "p_ng": 0.5, "n_iter": 400}
        made = draw("old " * length, "X " * length, {"X": ["new"]}, cap=True, **some)
        assert max(length - sample.count("old") for sample in made) == length // 2
    assert len(draw("a b c d e f", p_ng=1, max_ng=5, n_iter=400, cap=True)) == 1 + 6 + 5 + 4  # n of 1, 2 and 3


def test_samples_are_distinct_and_the_text_is_first_and_once():
    made = draw("a b", "X X", {"X": ["a", "b", "ab"]}, p_mask=0.3, p_pos=0.6, n_iter=500)
    assert made[0] == ("a", "b") and len(made) == len(set(made)) == 4 * 4
    assert draw("a b c", n_iter=20) == draw("a b c", p_mask=1, augment=False) == [("a", "b", "c")]
    assert draw("a b c", p_mask=1, n_iter=20) == [("a", "b", "c"), (MASK,) * 3]


def test_settings_out_of_range_are_refused():
    for values, reason in (
        ({"p_mask": 0.7, "p_pos": 0.4}, "--p_mask 0.7 and --p_pos 0.4: more than 1 together; lower one of them"),
        ({"p_ng": 1.5}, "--p_ng must be in [0, 1], got 1.5"),
        ({"mask_token": "a b"}, "--mask_token must be one word without blanks, got a b"),
    ):
        with pytest.raises(ValueError, match=re.escape(reason)):
            AugmentConfig(**values)


def test_a_row_draws_from_its_number_and_from_nothing_else(tmp_path):
    work = stream.sampler({"N": ["a", "b", "c"]}, AugmentConfig(), "\tdummy")
    rows = ["a b c a\tN N N N\t", "c c b\tN N N\t", "a b c a\tN N N N\t"]
    alone = [work(number, [row]) for number, row in enumerate(rows)]
    assert work(0, rows) == "".join(alone) and alone[0] != alone[2]
    assert augment(tmp_path / "one") != augment(tmp_path / "other", cfg=AugmentConfig(n_iter=6, seed=43))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_processes_and_chunks_change_nothing(processes, chunk, tmp_path):
    cfg = AugmentConfig(lower=True)
    whole = augment(tmp_path / "whole", cfg=cfg)
    assert augment(tmp_path / "part", cfg=cfg, processes=processes, chunk=chunk) == whole
    assert whole.startswith("film0 was not bad0\t0\n") and "Film" not in whole and MASK in whole


@pytest.mark.slow
def test_processes_that_are_spawned_give_the_same(tmp_path, monkeypatch):
    forked, spawn = augment(tmp_path / "forked", processes=2), multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: spawn)
    monkeypatch.setattr(os, "fork", None)
    assert augment(tmp_path / "spawned", processes=2) == forked


def test_no_more_rows_are_read_than_are_worked_on():
    read = []
    rows = (read.append(row) or f"{len(row)} b\tN N\t" for row in ROWS for _ in range(10))
    work = stream.Crew(2, 1).work(rows, 0, stream.sampler, ({}, AugmentConfig(), ""))
    next(work)
    assert len(read) < 10
    work.close()


DIES = """
import os, signal, sys
import test_augment as t
from fine_tune.glove import stream
stream.SECONDS, parent = 0, os.getpid()
output, name, victim, processes = sys.argv[1:]
real = getattr(stream, name)
def dies(*args):
    work = real(*args)
    who = lambda: parent if victim == "parent" else os.getpid()
    return lambda first, rows: os.kill(who(), signal.SIGKILL) if first >= 30 else work(first, rows)
setattr(stream, name, dies)
t.augment(t.Path(output), processes=int(processes), chunk=3)
"""


@pytest.mark.parametrize("name", ["tagger", "sampler"])
@pytest.mark.parametrize(
    ("victim", "processes"),
    [("parent", 1), pytest.param("parent", 2, marks=SLOW), pytest.param("worker", 2, marks=SLOW)],
)
def test_killed_and_started_again_it_goes_on(name, victim, processes, tmp_path, monkeypatch):
    whole, output = augment(tmp_path / "whole", chunk=3), tmp_path / "output"
    command = [sys.executable, "-c", DIES, str(output), name, victim, str(processes)]
    env = os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True)
    assert ended.returncode == (-signal.SIGKILL if victim == "parent" else 1) and not output.exists()
    assert victim == "parent" or "one of the processes was killed" in ended.stderr.splitlines()[-1]
    note = tmp_path / ".output.part" / ("tagged.json" if name == "tagger" else "samples.json")
    at = json.loads(note.read_text())["rows"]
    assert 0 < at <= 30 and at % 3 == 0
    with note.with_suffix("").open("a") as file:
        file.write("half a li" * 9999)  # what was written after the note
    made, real = [], getattr(stream, name)
    monkeypatch.setattr(stream, name, lambda *args: lambda first, rows: made.append(first) or real(*args)(first, rows))
    assert augment(output, chunk=3) == whole and made[0] == at


def test_what_was_begun_with_other_settings_is_begun_anew(tmp_path, monkeypatch):
    whole = augment(tmp_path / "whole", header="text\tlabel")
    monkeypatch.setattr(stream, "sampler", lambda *args: lambda first, rows: 1 // (first < 9) and "x\n")
    with pytest.raises(ZeroDivisionError):
        augment(tmp_path / "output", chunk=3)
    monkeypatch.undo()
    assert (tmp_path / ".output.part" / "samples").read_text() == "x\n" * 3
    assert augment(tmp_path / "output", header="text\tlabel") == whole and whole.startswith("text\tlabel\nFilm0 ")


def test_what_is_there_is_kept_or_refused(tmp_path, monkeypatch):
    output = tmp_path / "output"
    first = augment(output)
    assert json.loads(stream.beside(output).read_text())["lines"] == first.count("\n")
    with monkeypatch.context() as patch:
        patch.setattr(stream, "tagger", None)  # nothing is done
        assert augment(output) == first
    with pytest.raises(ValueError, match="already there, but suffix was '', is 'x'; replace it with --overwrite"):
        augment(output, suffix="x")
    with pytest.raises(ValueError, match="rows_sha256 was"):
        augment(output, ROWS[1:])
    assert augment(output, suffix="x", overwrite=True) == first.replace("\n", "x\n")
    output.write_text("mine\n")
    with pytest.raises(ValueError, match="made by something else, or changed since"):
        augment(output, suffix="x")


NO_LABEL = ":2: no label after the text; --preserve_label needs one"


def test_bad_input_is_refused(tmp_path, refused):
    file = tmp_path / "train.txt"
    for content, reason in (
        (b"good\t1\n\t0\n", ":2: empty text"), (b"good\t1\n\n", ":2: empty text"), (b"good\t1\nbad\n", NO_LABEL),
        (b"good\t1\nb\xe9d\t0\n", ":2: not UTF-8: invalid continuation byte at byte 1"), (b"", " is empty"),
        (b"g\0\t\0", ": not UTF-8, it looks like UTF-16; a UTF-8 text file with a row per line is needed"),
    ):  # fmt: skip
        file.write_bytes(content)
        told = refused(SCRIPT, "--input", file, "--output", tmp_path / "out", "--no_analyzer", "--preserve_label")
        assert told == f"{file}{reason}" and list(tmp_path.iterdir()) == [file]
    assert "this is --input" in refused(SCRIPT, "--input", file, "--output", file, "--no_analyzer", "--overwrite")


def test_analyzers_that_cannot_be_had_are_refused(monkeypatch):
    monkeypatch.setattr(analyze, "find_spec", lambda name: None)
    for name, reason in {
        "khaiii": "Kakao's morphological analyser in C++, which no longer installs; --analyzer kiwi gives the same",
        "npc": "an in-house analyser that was never published; --analyzer kiwi gives the same",
        "nltk": "not known; choose one of spacy, kiwi, none", "kiwi": "pip install kiwipiepy==0.24.1",
        "spacy": "spacy is not installed; pip install spacy==3.8.18; or give --no_analyzer",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"--analyzer {name}: .*{re.escape(reason)}"):
            analyzer_named(name)


def test_particles_and_endings_are_never_replaced():
    kept = [tag for tag in "NNG NNP NNB VV VX VA JKB JX EC ETM MAG SF -".split() if not analyze.lexical(tag)]
    assert kept == ["NNB", "VX", "JKB", "JX", "EC", "ETM", "-"]
    rows = ["film is\tNNG JKB\t", "plot film\tNNG NNG\t"]
    assert stream.distinct_words(rows, analyze.lexical) == {"NNG": ["film", "plot"]}


def test_the_script_writes_what_its_flags_say(tmp_path, run, capsys):
    source = tmp_path / "train.txt"
    source.write_text('\ufeff"A Film , [MASK] \t1\r\nTwo\u2028words \t0', encoding="utf-8")

    def made(*flags: object) -> list[str]:
        run(SCRIPT, "--input", source, "--output", tmp_path / "sub" / "out", "--no_analyzer", "--overwrite", *flags)
        return (tmp_path / "sub" / "out").read_text(encoding="utf-8").splitlines()

    assert made("--no_augment") == ['"A Film , [MASK]\tdummy', "Two words\tdummy"]
    assert made("--no_augment", "--lower", "--preserve_label") == ['"a film , [MASK]\t1', "two words\t0"]
    assert "wrote" in capsys.readouterr().out
    assert made("--no_augment", "--lower", "--preserve_label") and "already there" in capsys.readouterr().out
    many = made("--mask_token", "<mask>", "--dummy_label", "none", "--p_mask", 0.5, "--processes", 2)
    assert {line.split("\t")[1] for line in many} == {"none"} and {"<mask> words\tnone", "Two <mask>\tnone"} <= {*many}


def test_the_script_runs_in_its_folder(tmp_path):
    (tmp_path / "train.txt").write_text("good\t1\n")
    command = [sys.executable, PROJECT / "glove_student" / "augment_data.py", "--no_analyzer"]
    subprocess.run([*command, "--input", "train.txt", "--output", "out"], cwd=tmp_path, check=True, capture_output=True)
    assert set((tmp_path / "out").read_text().splitlines()) == {"good\tdummy", "[MASK]\tdummy"}


@pytest.mark.slow
def test_spacy_tags_the_words_of_the_file():
    pytest.importorskip("spacy")
    if not any(map(importlib.util.find_spec, analyze.MODELS)):
        pytest.skip("spaCy's English model is not installed")
    text = "the movie -- a fine-grained gem -lrb- doesn't bore -rrb-  [MASK]"
    ((words, tags), _) = analyzer_named("spacy").load()([text, "good"])
    assert words == text.split() and dict(zip(words, tags, strict=True))["movie"] == "NOUN" and tags[0] == "DET"


@pytest.mark.slow
def test_kiwi_gives_morphemes_with_sejong_tags():
    pytest.importorskip("kiwipiepy")
    analyzer = analyzer_named("kiwi")
    ((words, tags), (_, second)) = analyzer.load()(["영화가 정말 재미있었다", "그를 도와 주었다"])
    assert words == "영화 가 정말 재미있 었 다".split() and tags == "NNG JKS MAG VA EP EF".split()
    assert second[2] == "VV"  # kiwipiepy says VV-I
    assert [analyzer.replaceable(tag) for tag in tags] == [True, False, True, True, False, False]
