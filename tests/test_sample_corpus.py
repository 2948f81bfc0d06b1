"""Tests of the generated sample corpus and of the script that writes it."""

import csv
import hashlib
import pathlib
import random
import re

import pytest

import generate_sample_corpus
from fine_tune.tasks.sample_corpus import (
    RULES,
    SIZES,
    SKELETONS,
    bag_of_words_accuracy,
    corpus_files,
    make_corpus,
    options,
    realise,
    write_corpus,
)

CORPUS = make_corpus()
ROWS = [row for split in SIZES for row in CORPUS[split]]


def readings(sentence: str) -> set[int]:
    """Returns the labels with which the grammar can derive a sentence, by recognising it instead of drawing it."""
    words = re.sub(r"\ban\b", "a", sentence).split()

    def ends(tokens: list[str], positive: bool, start: int) -> set[int]:
        """Returns the positions at which a derivation of the tokens that begins at `start` may end."""
        starts = {start}
        for token in tokens:
            if token[0] in "+-=":
                verdict = positive != (token[0] == "-")
                choices = [choice.split() for choice in {*options(token[1:], verdict)}]  # some stand there more often
                starts = {end for at in starts for choice in choices for end in ends(choice, verdict, at)}
            else:
                starts = {at + 1 for at in starts if at < len(words) and words[at] == token}
            if not starts:
                break
        return starts

    skeletons = [skeleton.split() for skeleton in SKELETONS]
    return {label for label in (0, 1) if any(len(words) in ends(tokens, bool(label), 0) for tokens in skeletons)}


def test_splits_have_their_sizes_and_are_balanced() -> None:
    """Every split has the rows asked for, half of them positive."""
    assert {split: len(rows) for split, rows in CORPUS.items()} == SIZES
    assert all(2 * sum(label for _, label in rows) == len(rows) for rows in CORPUS.values())
    assert [len(rows) for rows in make_corpus(1, {"train": 6, "test": 3}).values()] == [6, 3]


def test_no_sentence_occurs_twice() -> None:
    """The splits are disjoint and free of duplicates."""
    assert len({sentence for sentence, _ in ROWS}) == sum(SIZES.values())


def test_sentences_look_like_sst2() -> None:
    """Sentences are lower-case, blank-separated words of bounded number with the articles they need."""
    for sentence, _ in ROWS:
        assert re.fullmatch(r"[a-z'-]+( ([a-z'-]+|[,;?]))* \.", sentence)
        assert 4 <= len(sentence.split()) <= 30
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\ban? an? ", sentence)


def test_corpus_is_the_same_everywhere() -> None:
    """The default seed gives exactly the published corpus and another seed gives another one."""
    digest = hashlib.sha256(repr(ROWS).encode()).hexdigest()
    assert digest == "e791555d9d46b8fab435b5c789d323928d073f11ce5947be464a56ff67ca6f09"
    assert make_corpus(7, {"train": 10}) != make_corpus(8, {"train": 10})


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("the plot is not tedious .", 1),
        ("the acting is anything but captivating .", 0),
        ("the score could hardly be more wooden .", 0),
        ("the score could hardly be less wooden .", 1),
        ("nobody can claim that the script is not stylish .", 1),
        ("although the cast is charming , the pacing is neither vivid nor elegant .", 0),
        ("the cast is not at all charming , but the pacing is never less than vivid .", 1),
        ("the humor is far from shallow , although the editing is no joy .", 1),
        ("despite the vivid finale , the direction is far less engaging than expected .", 0),
        ("a slightly awkward but utterly moving western .", 1),
        ("the dialogue is less playful than contrived .", 0),
        ("critics say that the climax is no letdown , and they are not right .", 0),
        ("critics say that the climax is no triumph , and they are not wrong .", 0),
        ("in other hands the romance would have been insipid .", 1),
        ("i expected the ending to be memorable , but i was wrong .", 0),
        ("is the opening sloppy ? not for a moment .", 1),
    ],
)
def test_labels_agree_with_a_reader(sentence: str, label: int) -> None:
    """The grammar derives hand-written sentences with the label that a reader gives them, and with no other."""
    assert readings(sentence) == {label}


@pytest.mark.slow
def test_no_row_can_be_read_with_the_other_label() -> None:
    """The labels are free of noise: the grammar derives each sentence with its own label alone."""
    assert all(readings(sentence) == {label} for sentence, label in ROWS[::25])


@pytest.mark.slow
@pytest.mark.parametrize("skeleton", SKELETONS)
def test_every_skeleton_carries_both_labels(skeleton: str) -> None:
    """A skeleton realised with a verdict can be read with that verdict alone."""
    for label in (0, 1):
        for seed in range(3):
            assert readings(realise(skeleton, bool(label), random.Random(seed))) == {label}


def test_every_symbol_is_defined_and_every_rule_is_used() -> None:
    """The grammar has neither loose ends nor dead rules."""
    templates = [*SKELETONS, *(template for rule in RULES.values() for template in rule)]
    used = {token[1:] for template in templates for token in template.split() if token[0] in "+-="}
    assert all(options(symbol, True) for symbol in used)
    assert used >= set(RULES)


@pytest.mark.parametrize(("ngrams", "bound"), [(1, 0.65), (2, 0.78)])
def test_counts_of_words_do_not_tell_the_label(ngrams: int, bound: float) -> None:
    """Neither words nor bigrams give the sentiment away."""
    assert bag_of_words_accuracy(CORPUS, ngrams) < bound


def test_files_have_the_format_of_glue(tmp_path: pathlib.Path) -> None:
    """The files carry GLUE's columns, and the test file no labels."""
    write_corpus(tmp_path / "SAMPLE")
    assert sorted(path.name for path in (tmp_path / "SAMPLE").iterdir()) == ["dev.tsv", "test.tsv", "train.tsv"]
    for split, size in SIZES.items():
        header, *lines = (tmp_path / "SAMPLE" / f"{split}.tsv").read_bytes().decode().removesuffix("\n").split("\n")
        assert header == ("index\tsentence" if split == "test" else "sentence\tlabel")
        assert len(lines) == size
        sentence, label = CORPUS[split][1]
        assert lines[1] == (f"1\t{sentence}" if split == "test" else f"{sentence}\t{label}")


def test_a_table_as_a_user_may_have_one(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "reviews.csv"
    for told in ("wrote", "already there"):
        generate_sample_corpus.main(["--csv", str(file), "--rows", "40"])
        assert capsys.readouterr().out == f"{told}: {file} (train 40 rows)\n"
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    assert header == ["review", "sentiment"] and len(rows) == 40
    wanted = [[text, ("negative", "positive")[label]] for text, label in make_corpus(42, {"train": 40})["train"]]
    assert rows == wanted
    for words in (["--rows", "41"], ["--rows", "0"], ["--bag_of_words"]):
        with pytest.raises(SystemExit, match="2"):
            generate_sample_corpus.main(["--csv", str(file), *words])


@pytest.mark.slow
def test_script_replaces_other_content_only_when_told(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script writes once, recognises its own files and guards those of others."""
    command = ["--output", str(tmp_path)]
    generate_sample_corpus.main(command)
    assert capsys.readouterr().out == f"wrote: {tmp_path} (train 4000, dev 500, test 500 rows)\n"
    generate_sample_corpus.main(command)
    assert capsys.readouterr().out.startswith("already there: ")
    (tmp_path / "dev.tsv").write_text("mine\n")
    with pytest.raises(SystemExit, match="2"):
        generate_sample_corpus.main(command)
    assert (tmp_path / "dev.tsv").read_text() == "mine\n"
    assert "dev.tsv" in capsys.readouterr().err
    generate_sample_corpus.main([*command, "--overwrite"])
    assert (tmp_path / "dev.tsv").read_text() == corpus_files(CORPUS)["dev.tsv"]
