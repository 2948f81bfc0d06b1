"""Tests of what strangers bring: tables, encoders, environments and file systems that were not made for us.

Each stands for a kind of report from the field, see doc/reliability.md.
"""

import errno
import json
import os
import shutil
import signal
import string
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from conftest import SIZES, VOCABULARY, Data, make_encoder
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from fine_tune.compare.train import locked
from fine_tune.data.tokens import load_tokenizer
from fine_tune.files import fault, move, sync
from fine_tune.hardware import host, rank
from fine_tune.path import PROJECT
from fine_tune.run import session
from fine_tune.tasks.rows import foreign_kind
from fine_tune.tasks.table import TASKS

QUICK = ("--device_id", -1, "--batch_size", 8, "--total_step", 2, "--warmup_step", 1, "--dropout", 0)


@pytest.fixture
def own(encoder, tmp_path) -> Path:
    """A copy of the encoder, to be spoilt."""
    return Path(shutil.copytree(encoder, tmp_path / "own"))


def tune(encoder: object, task: str = "sst2", *more: object) -> tuple[object, ...]:
    words = ("--experiment", "t", "--task", task, "--ptrain_ver", encoder, "--max_seq_len", 24, "--no_preflight")
    return ("run_fine_tune", *words, *QUICK, *more)


# Tables.


def spoil_table(data: Data, change) -> None:
    file = data.file("SST-2/train.tsv")
    file.write_bytes(change(file.read_bytes()))


TABLES = {
    "UTF-16": (lambda text: text.decode().encode("utf-16"), "not UTF-8, it looks like UTF-16"),
    "UTF-16 without its mark": (lambda text: text.decode().encode("utf-16-le"), "not UTF-8, it looks like UTF-16"),
    "Latin-1": (lambda text: text + "caf\u00e9\t1\n".encode("latin-1"), "is the encoding Latin-1 or Windows-1252?"),
    "carriage returns": (lambda text: text.replace(b"\n", b"\r"), "its lines end with carriage returns alone"),
    "zip": (lambda text: b"PK\x03\x04" + text, "a zip archive or a spreadsheet"),
    "gzip": (lambda text: b"\x1f\x8b" + text, "a gzip archive"),
    "git-lfs": (lambda text: b"version https://git-lfs.github.com/spec/v1\nsize 5\n", "a git-lfs pointer"),
    "web page": (lambda text: b"\n<!DOCTYPE html><html>not found</html>\n", "a web page"),
    "column twice": (lambda text: text.replace(b"sentence\tlabel", b"label\tlabel\tsentence"), "label stands twice"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_cannot_be_meant_is_named(kind, data, encoder, refused):
    change, message = TABLES[kind]
    spoil_table(data, change)
    told = refused(*tune(encoder))
    assert message in told and "SST-2/train.tsv" in told and "\0" not in told


def test_a_column_that_stands_twice_and_is_not_read_does_no_harm(data, encoder, run):
    lines = data.file("SST-2/train.tsv").read_text(encoding="utf-8").splitlines()
    twice = ["sentence\tlabel\tnote\tnote", *(f"{line}\ta\tb" for line in lines[1:])]
    data.file("SST-2/train.tsv").write_text("\n".join(twice) + "\n", encoding="utf-8")
    run(*tune(encoder))


WINDOWS = (lambda text: text.replace(b"\n", b"\r\n"), lambda text: b"\xef\xbb\xbf" + text, lambda text: text[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("change", WINDOWS, ids=["CRLF", "mark", "no last line end"])
def test_a_table_that_went_through_windows_is_the_same(change, data, encoder, run):
    run(*tune(encoder))
    want = data.state("t", 2)
    spoil_table(data, change)
    run(*tune(encoder, "sst2", "--overwrite"))
    assert all(torch.equal(value, want[name]) for name, value in data.state("t", 2).items())


def test_kinds_are_told_apart_by_content_alone():
    assert foreign_kind(b"") == foreign_kind("sentence\tlabel\n\u00e4\0\t1\n".encode()) == ""
    assert foreign_kind(b"a\tb\r\n1\t2\r\n") == foreign_kind(b"one line") == foreign_kind(b"one line\r\n") == ""


def test_a_field_that_stands_twice_in_a_json_row_is_refused(data, encoder, refused):
    data.write("boolq")
    file = data.file("BoolQ/train.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([lines[0][:-1] + ', "label": false}', *lines[1:]]) + "\n", encoding="utf-8")
    assert "train.jsonl:1: the field 'label' stands twice" in refused(*tune(encoder, "boolq"))


# Ids.


def predict(task: str) -> tuple[object, ...]:
    return ("generate_test_prediction", "--experiment", "t", "--task", task, "--device_id", -1, "--no_preflight")


def test_predictions_stand_under_the_ids_of_the_file(data, encoder, run, refused):
    """Not under row numbers: a test file may be a part of the official one, in another order."""
    run(*tune(encoder))
    file = data.file("SST-2/test.tsv")
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    run(*predict("sst2"))
    whole = (data.run("t") / "SST-2.tsv").read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([header, *rows[:1:-1]]) + "\n", encoding="utf-8")
    run(*predict("sst2"))
    part = (data.run("t") / "SST-2.tsv").read_text(encoding="utf-8").splitlines()
    assert part == [whole[0], *whole[:2:-1]]
    file.write_text("\n".join([header, rows[0], rows[0]]) + "\n", encoding="utf-8")
    assert "index 0 stands for 2 rows" in refused(*predict("sst2"))


def test_ids_that_are_no_numbers_are_kept(data, encoder, run):
    data.write("boolq")
    file = data.file("BoolQ/test.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row, idx in zip(rows, ["q1", "007", "7", 8, "\u00e9", 10], strict=True):
        row["idx"] = idx
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    run(*tune(encoder, "boolq"))
    run(*predict("boolq"))
    lines = (data.run("t", "boolq") / "BoolQ.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["idx"] for line in lines] == ["q1", "007", 7, 8, "\u00e9", 10]


# Tokenizers.


def retokenized(folder: Path, words: list[str], lower: bool) -> Path:
    """Give an encoder a vocabulary of as many words, and a tokenizer that lower-cases or not."""
    for file in folder.glob("*token*"):
        file.unlink()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=lower).save_pretrained(folder)
    return folder


def capitalise(data: Data) -> None:
    for split in ("train", "dev"):
        header, *lines = data.file(f"SST-2/{split}.tsv").read_text(encoding="utf-8").splitlines()
        text = "\n".join([header, *(line.capitalize() for line in lines)]) + "\n"
        data.file(f"SST-2/{split}.tsv").write_text(text, encoding="utf-8")


def test_an_uncased_vocabulary_that_is_fed_capitals_is_told(data, own, run, caplog):
    capitalise(data)
    retokenized(own, VOCABULARY, lower=False)
    run(*tune(own)[:-1], "0")
    assert [text for text in caplog.messages if "% of the tokens unknown to the tokenizer" in text]
    (warning,) = [text for text in caplog.messages if "should do_lower_case be true?" in text]
    assert "sst2 train" in warning and "the tokenizer keeps capitals, but its vocabulary has none" in warning


def test_the_same_rows_in_lower_case_are_known(data, own, run, caplog):
    capitalise(data)
    run(*tune(own))
    assert [text for text in caplog.messages if "SST-2/train.tsv, all tokens known" in text]
    assert not [text for text in caplog.messages if "unknown" in text or "do_lower_case" in text]


@pytest.mark.parametrize("lower", [False, True])
def test_a_cased_vocabulary_that_is_fed_lower_case_is_told(lower, data, own, run, caplog):
    words = [word.capitalize() if 10 < number < 30 else word for number, word in enumerate(VOCABULARY)]
    retokenized(own, words, lower)
    command = [word for word in tune(own) if word != "--no_preflight"]
    run(*command)
    assert bool([text for text in caplog.messages if "should do_lower_case be false?" in text]) == lower


def test_padding_of_another_number_is_told_and_does_no_harm(data, own, run, caplog):
    """Padding is masked. Multilingual MiniLM is like that."""
    config = json.loads((own / "config.json").read_text(encoding="utf-8")) | {"pad_token_id": 3}
    (own / "config.json").write_text(json.dumps(config), encoding="utf-8")
    run(*[word for word in tune(own) if word != "--no_preflight"])
    assert [text for text in caplog.messages if "padding is token 0 of the tokenizer" in text]


# Sound encoders of other shapes.


def multilingual(folder: Path) -> Path:
    """A unigram tokenizer with other marks, as XLM-R's, and more embeddings than it has tokens."""
    config = transformers.BertConfig(**SIZES | {"vocab_size": len(VOCABULARY) + 40})
    make_encoder(folder, config)
    for file in (*folder.glob("*token*"), folder / "vocab.txt"):
        file.unlink(missing_ok=True)
    pieces = [(mark, 0.0) for mark in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += [("\u2581" + word, -2.0) for word in VOCABULARY[5:]] + [
        (letter, -6.0) for letter in string.ascii_lowercase
    ]
    raw = Tokenizer(models.Unigram([*pieces, ("\u2581", -6.0)], unk_id=3))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    marks = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **marks).save_pretrained(folder)
    return folder


def cased(folder: Path) -> Path:
    make_encoder(folder, transformers.BertConfig(**SIZES))
    return retokenized(folder, [word.upper() if number > 50 else word for number, word in enumerate(VOCABULARY)], False)


def shaped(**sizes: int):
    return lambda folder: Path(make_encoder(folder, transformers.BertConfig(**SIZES | sizes)))


SHAPES = {
    "uncased": (shaped(), 24), "cased": (cased, 24), "multilingual": (multilingual, 24),
    "one segment": (shaped(type_vocab_size=1), 24), "long": (shaped(max_position_embeddings=512), 512),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", ["cased", *(pytest.param(name, marks=pytest.mark.slow) for name in SHAPES if name != "cased")]
)
def test_a_sound_encoder_of_another_shape_is_let_through(shape, data, tmp_path, run):
    """With all checks: as a teacher to fine-tune, and as one that teaches."""
    make, length = SHAPES[shape]
    words = [word for word in tune(make(tmp_path / "shape")) if word != "--no_preflight"]
    run(*words, "--max_seq_len", length)
    run("run_kd_distil", "--experiment", "s", "--teacher_exp", "t", "--task", "sst2", *QUICK)
    assert (data.run("s") / "model-2.pt").is_file()


# Encoders.


def spoil_pointer(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 440473133\n"
    (folder / "pytorch_model.bin").write_text(pointer, encoding="utf-8")


def spoil_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")


def spoil_empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def spoil_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(transformers.BertModel(transformers.BertConfig(**SIZES)), folder / "pytorch_model.bin")


def spoil_config(**values: object):
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | values
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return spoil


def spoil_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


ENCODERS = {
    "git-lfs": (spoil_pointer, "pytorch_model.bin is a git-lfs pointer, not the file itself"),
    "git-lfs, tokenizer": (spoil_vocabulary, "tokenizer.json is a git-lfs pointer"),
    "empty": (spoil_empty, "model.safetensors is empty"),
    "pickled": (spoil_pickle, "weights damaged or of another model"),
    "relative positions": (spoil_config(position_embedding_type="relative_key"), "'relative_key' is not supported"),
    "quantised": (
        spoil_config(quantization_config={"quant_method": "awq", "bits": 4}),
        "its weights are quantised (awq)",
    ),
    "decoder": (spoil_config(is_decoder=True), "is no encoder"),
    "activation": (spoil_config(hidden_act="none of these"), "KeyError"),
    "sizes": (spoil_config(hidden_size=18), "weights damaged or of another model"),
    "nothing": (spoil_all, "has none of"),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_that_cannot_be_used_is_described_in_one_line(kind, data, own, refused):
    spoil, message = ENCODERS[kind]
    spoil(own)
    told = refused(*tune(own))
    assert message in told and "--ptrain_ver" in told and "no such folder" not in told


def test_weights_that_nobody_reads_are_named(data, own, run, caplog):
    weights = load_file(own / "model.safetensors")
    weights["encoder.layer.0.attention.self.distance_embedding.weight"] = torch.zeros(3, 8)
    weights |= {name: torch.zeros(3) for name in ("cls.predictions.bias", "embeddings.position_ids")}
    save_file(weights, own / "model.safetensors", metadata={"format": "pt"})
    run(*tune(own))
    (told,) = [text for text in caplog.messages if "not used" in text]
    assert "1 weights are not used, encoder.layer.0.attention.self.distance_embedding.weight among them" in told


def test_a_file_that_may_not_be_read_is_no_missing_file(tmp_path, monkeypatch):
    (tmp_path / "vocab.txt").write_text("a", encoding="utf-8")
    assert fault(tmp_path / "vocab.txt") == ""

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbidden)
    assert fault(tmp_path / "vocab.txt") == f"{tmp_path}/vocab.txt cannot be read: Permission denied"
    with pytest.raises(ValueError, match="no tokenizer .* cannot be read: Permission denied"):
        load_tokenizer(str(tmp_path))


def test_one_segment_suffices_for_one_sentence_and_is_refused_for_a_pair(data, tmp_path, run, refused):
    data.write("rte", train=24)
    one = make_encoder(tmp_path / "one", transformers.BertConfig(**SIZES, type_vocab_size=1))
    run(*tune(one))
    assert "type_vocab_size 1: rte has 2 segments" in refused(*tune(one, "rte"))


def test_a_folder_of_transformers_in_the_place_of_a_run_is_told(data, own, refused):
    spoil_config(architectures=["BertForSequenceClassification"], transformers_version="5.0")(own)
    shutil.copytree(own, data.run("hf"))
    for flag, script in (("--teacher_exp", "run_kd_distil"), ("--experiment", "run_fine_tune_eval")):
        more = ("--experiment", "s", *QUICK[:-2]) if flag == "--teacher_exp" else ("--device_id", -1)
        told = refused(script, flag, "hf", "--task", "sst2", *more)
        assert "a HuggingFace folder (BertForSequenceClassification), not a run" in told and "--ptrain_ver" in told


# Scores that depend on nothing but the run.


def table(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    return {cells[0].strip(): [cells[1], *cells[3:5]] for cells in lines if cells}


@pytest.mark.slow
def test_a_score_does_not_depend_on_the_runs_beside_it(data, encoder, albert, run, capsys):
    """Neither on a shorter one, nor on one of another architecture."""
    run(*tune(encoder))
    run(*tune(encoder, "sst2", "--experiment", "short", "--max_seq_len", 5))
    run(*tune(albert, "sst2", "--experiment", "other", "--model", "albert"))
    found = []
    for names in (["t"], ["short"], ["t", "short"], ["short", "other", "t"]):
        capsys.readouterr()
        run("compare_runs", "--task", "sst2", "--device_id", -1, "--sentences", 2, "--experiment", *names)
        found.append(table(capsys))
    assert found[2]["t"] == found[3]["t"] == found[0]["t"] and found[3]["short"] == found[1]["short"]
    assert found[3].keys() >= {"other"}


# Environments.


@pytest.mark.parametrize("name", rank.LAUNCHER)
def test_launcher_variables_count_only_together(name, monkeypatch):
    for each in (*rank.LAUNCHER, "LOCAL_RANK"):
        monkeypatch.setenv(each, "3")
    assert (rank.world_size(), rank.rank(), rank.local_rank(), rank.is_main()) == (3, 3, 3, False)
    monkeypatch.delenv(name)
    assert (rank.world_size(), rank.rank(), rank.local_rank(), rank.is_main()) == (1, 0, 0, True)


@pytest.mark.slow
def test_a_host_decides_nothing_that_breaks_a_script(teacher, data, tmp_path):
    """A notebook's backend, a locale without letters, no HOME: pictures are drawn, text is printed."""
    hostile = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline", "LC_ALL": "C", "PYTHONIOENCODING": "ascii",
        "PYTHONCOERCECLOCALE": "0", "RANK": "1", "DATA_DIR": str(data.root), "PATH": os.environ["PATH"],
    }  # fmt: skip
    code = "import sys, plot_run; plot_run.main(sys.argv[1:]); print('\\u00e9')"
    command = [sys.executable, "-c", code, str(teacher), "--out", str(tmp_path / "h\u00e9")]
    end = subprocess.run(command, env=hostile, cwd=PROJECT, capture_output=True, timeout=120)
    assert end.returncode == 0, end.stderr
    assert end.stdout.endswith(b"\\xe9\n") and list((tmp_path / "h\u00e9").glob("*.png"))


def test_a_relative_folder_is_the_callers(tmp_path):
    """Whether it is there already or not; a mirror's address and a hub's name are no folders."""
    (tmp_path / "enc").mkdir()
    code = f". {PROJECT}/scripts/root.sh; echo $DATA_DIR $GLUE_MIRROR $ENCODER $PWD"

    def resolved(**variables: str) -> list[str]:
        env = {"PATH": os.environ["PATH"], **variables}
        return subprocess.run(
            ["bash", "-euc", code], env=env, cwd=tmp_path, capture_output=True, text=True
        ).stdout.split()

    here = str(tmp_path)
    assert resolved(DATA_DIR="mine", GLUE_MIRROR="m", ENCODER="enc") == [
        f"{here}/mine",
        f"{here}/m",
        f"{here}/enc",
        str(PROJECT),
    ]
    same = {"DATA_DIR": "/x/y", "GLUE_MIRROR": "https://a.b/c", "ENCODER": "bert-base-uncased"}
    assert resolved(**same) == [*same.values(), str(PROJECT)]


def test_a_checkout_keeps_the_line_ends_of_scripts():
    """git on Windows turns them into CRLF otherwise, and bash reads the carriage return."""
    if not (PROJECT / ".git").exists():
        pytest.skip("no checkout")
    files = [str(file.relative_to(PROJECT)) for file in (*PROJECT.glob("*.sh"), *PROJECT.glob("scripts/*.sh"))]
    said = subprocess.run(["git", "check-attr", "eol", *files], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [f"{file}: eol: lf" for file in files]


# File systems.


def test_a_file_moves_to_another_disk_in_one_step(tmp_path, monkeypatch):
    replace = Path.replace

    def across(self: Path, target: Path) -> Path:
        if self.parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", across)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_bytes(b"new")
    (tmp_path / "there" / "file").write_bytes(b"old")
    move(tmp_path / "file", tmp_path / "there" / "file")
    assert [str(file.relative_to(tmp_path)) for file in sorted(tmp_path.rglob("*"))] == ["there", "there/file"]
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


def test_a_folder_that_cannot_be_synced_is_no_error_and_a_file_is(tmp_path, monkeypatch):
    """vfat and some network file systems sync files only."""

    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("os.fsync", refuse)
    sync(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        sync(tmp_path / "file")


def test_where_there_are_no_locks_runs_and_suites_go_on_with_a_warning(data, encoder, run, monkeypatch, caplog):
    """Some network file systems have none."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    run(*tune(encoder))
    assert (data.run("t") / "model-2.pt").is_file()
    suite = SimpleNamespace(name="s", folder=data.root / "suites" / "s", task=TASKS["sst2"])
    with locked(suite, ["run_suite.py"]):
        assert json.loads((suite.folder / "suite.json").read_text(encoding="utf-8"))["task"] == "sst2"
    told = {line.split(" cannot be locked (")[0] for line in caplog.messages if "let no other process use it" in line}
    assert told >= {str(data.run("t")), str(suite.folder)}


@pytest.mark.parametrize("where", ["DATA_DIR", "--ptrain_ver", "GLUE_MIRROR"])
def test_a_home_folder_that_nobody_has_is_told(where, data, encoder, refused, monkeypatch):
    if where.startswith("--"):
        told = refused(*tune("~no_user/bert"))
    else:
        monkeypatch.setenv(where, "~no_user/bert")
        told = refused(*tune(encoder)) if where == "DATA_DIR" else refused("prepare_data", "--task", "rte")
    assert "~no_user/bert: there is no home folder that ~no_user stands for; give the whole path" in told


def test_a_data_folder_that_may_not_be_written_is_told_with_the_way_round(data, refused, monkeypatch):
    def locked(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", locked)
    told = refused("generate_sample_corpus")
    assert "Read-only file system" in told and told.endswith(
        "; DATA_DIR=<folder> before the command puts data and runs elsewhere"
    )


# Ends that can be foreseen.


@pytest.mark.slow
def test_a_hang_up_saves_a_state_unless_nohup_ignores_it(data, encoder, run, monkeypatch):
    step = session.Session.record

    def hung_up(self: session.Session, made: dict[str, float | torch.Tensor]) -> None:
        step(self, made)
        if self.now == 1:
            os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(session.Session, "record", hung_up)
    with pytest.raises(SystemExit) as end:
        run(*tune(encoder))
    assert end.value.code == 128 + signal.SIGHUP
    assert torch.load(data.run("t") / "state.pt", weights_only=True)["step"] == 1
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run(*tune(encoder, "sst2", "--overwrite"))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (data.run("t") / "model-2.pt").is_file()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), MemoryError()]
)
def test_the_end_of_memory_is_told_with_what_helps(error, data, encoder, run, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(session.Session, "backward", full)
    with pytest.raises(SystemExit) as end:
        run(*tune(encoder))
    assert "stopped at update 1: no memory left" in str(end.value.code)
    assert "--accum_step 2 or --gradient_checkpointing takes" in str(end.value.code)
    monkeypatch.undo()


def test_what_says_that_memory_is_gone():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert host.ran_out(error.value) and host.ran_out(MemoryError()) and not host.ran_out(RuntimeError("shape"))


# Paths.


def test_a_run_goes_on_from_another_folder_with_an_encoder_that_has_moved(data, own, run, monkeypatch):
    """A relative path is the caller's; an encoder is known by what it holds, not by where it is."""
    monkeypatch.chdir(own.parent)
    step = session.Session.record

    def stop(self: session.Session, made: dict[str, float | torch.Tensor]) -> None:
        step(self, made)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(session.Session, "record", stop)
        run(*tune("own"))
    assert data.config("t")["ptrain_ver"] == str(own)
    monkeypatch.chdir("/")
    run(*tune(own.rename(own.with_name("moved")), "sst2", "--resume"))
    assert (data.run("t") / "model-2.pt").is_file()
