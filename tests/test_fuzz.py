"""Malformed files and command lines, thrown at every reader: each is read, or refused in one line; none else happens.

Some 700 cases here; `HYPOTHESIS_PROFILE=nightly python -m pytest tests/test_fuzz.py` tries 20,000.
"""

import bz2
import functools
import gzip
import io
import json
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import HEADERS, labelled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fine_tune.data.tokens import load_tokenizer
from fine_tune.files import read_json
from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.flags.saved import load_config
from fine_tune.flags.shared import STUDENT_GROUPS, OptimConfig
from fine_tune.hardware import host, rank
from fine_tune.hardware.rank import LAUNCHER
from fine_tune.model.checkpoint import load_state
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.model.load import load_run
from fine_tune.path import data_dir
from fine_tune.run.folder import is_complete
from fine_tune.run.history import read_runs, read_scores
from fine_tune.run.optim import Part, Updater
from fine_tune.run.state import Snapshot
from fine_tune.tasks.download import unpack
from fine_tune.tasks.named import task_named
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import TASKS
from fine_tune.teacher.bank import is_there
from fine_tune.teacher.banked import open_bank
from fine_tune.train.methods import METHODS as TABLE

CASES = {"fast": 50, "nightly": 1000}[os.environ.get("HYPOTHESIS_PROFILE", "fast")]
fuzz = settings(
    max_examples=CASES, deadline=None, derandomize=CASES == 50, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@st.composite
def spoiled(draw: Callable, sound: bytes) -> bytes:
    """Bytes of a sound file with some of them lost, doubled, or changed; or any bytes."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        until = min(len(content), at + draw(st.integers(0, 20)))
        content[at:until] = draw(st.one_of(st.binary(max_size=8), st.just(bytes(content[at:until]) * 2)))
    return draw(st.one_of(st.just(bytes(content)), st.binary(max_size=60)))


def read_or_refused(read: Callable[[], object], sound: bool = False) -> None:
    """Read something; what is wrong with it is told in words, and a sound file is read."""
    try:
        read()
    except (ValueError, OSError) as error:
        assert str(error) and not isinstance(error, UnicodeError) and not sound, repr(error)


def table(task: str) -> bytes:
    """A sound training file."""
    header = HEADERS[task][0]
    return "\n".join([header] * bool(header) + [labelled(task, row) for row in range(4)]).encode() + b"\n"


@pytest.mark.parametrize(
    "task", ["sst2", "boolq", *(pytest.param(t, marks=pytest.mark.slow) for t in ("mnli", "cola", "stsb"))]
)
@given(cases=st.data())
@fuzz
def test_damaged_tables_are_read_or_refused(task, cases, data):
    data.file(TASKS[task].folder).mkdir(parents=True, exist_ok=True)
    file = data.file(f"{TASKS[task].folder}/train.{TASKS[task].suffix}")
    content = cases.draw(spoiled(table(task)))
    file.write_bytes(content)
    read_or_refused(lambda: read_split(TASKS[task], "train"), content == table(task))


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7", "cp037")
LINE_ENDS = ("\n", "\r\n", "\r", "\n\r", "\x85", "\u2028", "\f")
WRAPPINGS = (gzip.compress, bz2.compress, lambda content: b"\n" + content, lambda content: content + b"\x1a")


@pytest.mark.parametrize("task", ["sst2", "boolq"])
@given(cases=st.data())
@fuzz
def test_tables_in_any_encoding_are_read_as_they_are_meant_or_refused(task, cases, data):
    """Those in UTF-8 with the line ends of Unix or Windows are read, and mean the same."""
    data.file(TASKS[task].folder).mkdir(parents=True, exist_ok=True)
    file = data.file(f"{TASKS[task].folder}/train.{TASKS[task].suffix}")
    text = (
        table(task)
        .decode()
        .replace("good", cases.draw(st.sampled_from(["good", "caf\u00e9", "\u6f22", "\U0001f600", '"'])))
        if task == "sst2"
        else table(task).decode()
    )
    file.write_bytes(text.encode())
    want = read_split(TASKS[task], "train")
    encoding, end = cases.draw(st.sampled_from(ENCODINGS)), cases.draw(st.sampled_from(LINE_ENDS))
    content = text.replace("\n", end).encode(encoding, "replace")
    wrapped = cases.draw(st.none() | st.sampled_from(WRAPPINGS))
    file.write_bytes(wrapped(content) if wrapped else content)
    sound = encoding.startswith("utf-8") and end in ("\n", "\r\n") and not wrapped
    found: list[object] = []
    read_or_refused(lambda: found.extend(read_split(TASKS[task], "train")), sound)
    assert not sound or found == want


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
OWN = b"""train: train.csv
dev: train.csv
text: [a, b]
label: colour
labels: [red, 'yes', "no"]
kind: single
metrics: [accuracy, f1]
"""
CSV = b'a,b,colour\r\none,"two, ""three""",red\r\n"four\nfive",six,yes\r\nseven,eight,no\r\n'


def whole_task(file: Path) -> None:
    """Read a task file and all of its rows; what is wrong is told in one line."""
    try:
        task = task_named(str(file))
        for split in task.splits:
            read_split(task, split)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error) and file.parent.name in str(error), repr(error)
        raise


@pytest.mark.parametrize("suffix", ["yaml", "csv", "tsv", "jsonl", "parquet"])
@given(cases=st.data())
@fuzz
def test_damaged_files_of_a_users_own_task_are_read_or_refused(suffix, cases, data):
    folder = data.root / "rows"
    folder.mkdir(exist_ok=True)
    rows = [{"a": "one", "b": "two", "colour": "red"}, {"a": "three \u00e9", "b": "four", "colour": "no"}] * 3
    sound = {
        "yaml": OWN,
        "csv": CSV,
        "tsv": b'a\tb\tcolour\none\t"two\tred\nthree\tfour\tyes\n',
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
    }.get(suffix) or parquet_of(tuple(map(tuple, map(dict.items, rows))))
    content = cases.draw(spoiled(sound))
    task = OWN if suffix == "yaml" else OWN.replace(b"train.csv", f"train.{suffix}".encode())
    keep = cases.draw(st.booleans()) or suffix == "yaml"  # else kind and labels are read off the rows
    task = task if keep else task.partition(b"labels")[0]
    (folder / "mine.yaml").write_bytes(content if suffix == "yaml" else task)
    (folder / f"train.{'csv' if suffix == 'yaml' else suffix}").write_bytes(CSV if suffix == "yaml" else content)
    read_or_refused(lambda: whole_task(folder / "mine.yaml"), content == sound)


@functools.cache
def parquet_of(rows: tuple) -> bytes:
    """A sound Parquet file."""
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs it")
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), buffer)
    return buffer.getvalue()


@given(cases=st.data())
@fuzz
def test_task_files_with_any_values_are_read_or_refused(cases, data):
    folder = data.root / "rows"
    folder.mkdir(exist_ok=True)
    (folder / "train.csv").write_bytes(CSV)
    values = {"train": "train.csv", "dev": "train.csv", "text": ["a", "b"], "label": "colour"}
    keys = ("name", "test", "labels", "kind", "metrics", "names", "split", "split_seed", *values)
    value = st.sampled_from(["red", "train.csv", "multi", "regression", ["a"], ["yes", "no", "red"], 0.5]) | ANY
    for key in cases.draw(st.lists(st.sampled_from(keys), max_size=3)):
        values[key] = cases.draw(value)
    as_run = cases.draw(st.booleans())
    values |= {"test_labels": cases.draw(ANY)} if as_run else {}
    file = folder / ("task.json" if as_run else "mine.yaml")
    file.write_text(json.dumps(values), encoding="utf-8")
    read_or_refused(lambda: whole_task(file))


CONFIG = json.dumps({
    "experiment": "x", "model": "bert", "task": "sst2", "num_class": 2, "max_seq_len": 24, "dropout": 0.1, "lr": 1e-3,
}).encode()  # fmt: skip


@given(cases=st.data())
@fuzz
def test_damaged_configurations_are_read_or_refused(cases, tmp_path):
    content = cases.draw(spoiled(CONFIG))
    if cases.draw(st.booleans()):
        values = json.loads(CONFIG)
        values[cases.draw(st.sampled_from(sorted(values)))] = cases.draw(ANY)
        content = json.dumps(values).encode()
    (tmp_path / "config.json").write_bytes(content)
    read_or_refused(lambda: load_config(tmp_path), content == CONFIG)
    read_or_refused(lambda: read_json(tmp_path / "config.json"))


@given(cases=st.data())
@fuzz
def test_damaged_checkpoints_are_read_or_refused(cases, tmp_path):
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(3), "other": torch.zeros(2, 2)}, buffer)
    content = cases.draw(spoiled(buffer.getvalue()))
    (tmp_path / "model-1.pt").write_bytes(content)
    read_or_refused(lambda: load_state(tmp_path / "model-1.pt"), content == buffer.getvalue())


WHOLE_RUN = ("config.json", "encoder.json", "model-4.pt", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json")


@pytest.mark.slow
@given(cases=st.data())
@fuzz
def test_damaged_files_of_a_run_are_read_or_refused(cases, data, teacher):
    """Also well-formed JSON with a value of another kind or size."""
    file = teacher / cases.draw(st.sampled_from(WHOLE_RUN))
    sound = file.read_bytes()
    content = cases.draw(spoiled(sound))
    if file.suffix == ".json" and cases.draw(st.booleans()):
        values = json.loads(sound)
        values[cases.draw(st.sampled_from(sorted(values)))] = cases.draw(ANY)
        content = json.dumps(values).encode()
    try:
        file.write_bytes(content)
        read = lambda: load_run("teacher", "bert", TASKS["sst2"], None, None, "--ckpt")  # noqa: E731
        read_or_refused(read, content == sound)
    finally:
        file.write_bytes(sound)


@functools.cache
def weights(encoder: str) -> dict[str, torch.Tensor]:
    """The state of a classifier on an encoder."""
    return Classifier(pretrained_encoder(encoder), 2, 0.1).state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("bert", marks=pytest.mark.slow), "albert"])
@given(cases=st.data())
@fuzz
def test_damaged_files_of_a_released_student_are_read_or_refused(kind, cases, data, encoder, albert):
    """Its architecture is read off its weights: also with a weight that is missing, or of another shape."""
    values = json.loads(CONFIG) | {"model": kind, "num_hidden_layers": 4, "num_attention_heads": 2}
    state = dict(weights({"bert": encoder, "albert": albert}[kind]))
    change = cases.draw(st.sampled_from(("nothing", "value", "weight", "shape")))
    if change == "value":
        values[cases.draw(st.sampled_from(sorted(values)))] = cases.draw(ANY)
    elif change != "nothing":
        name = cases.draw(st.sampled_from(sorted(state)))
        del state[name]
        if change == "shape":
            state[name] = torch.ones(cases.draw(st.lists(st.integers(0, 4), max_size=3)))
    folder = data.run("x", model=kind)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    torch.save(state, folder / "model-4.pt")
    read_or_refused(lambda: load_run("x", kind, TASKS["sst2"], None, encoder, "--ckpt"), change == "nothing")


@given(cases=st.data())
@fuzz
def test_damaged_states_are_read_or_refused(cases, tmp_path):
    model = torch.nn.Linear(2, 2)
    snapshot = Snapshot(tmp_path, [model], Updater({"": Part([model], OptimConfig(), 4, 1)}))
    snapshot.save(3, {})
    sound = snapshot.file.read_bytes()
    content = cases.draw(spoiled(sound))
    snapshot.file.write_bytes(content)
    read_or_refused(snapshot.load, content == sound)


@given(cases=st.data())
@fuzz
def test_damaged_banks_are_read_or_refused(cases, tmp_path):
    """Damaged bytes; or a sound file of anything."""
    file = tmp_path / cases.draw(st.sampled_from(["logitsbank-4.pt", "membank.pt", "membank3.pt"]))
    about = {"run": "t_bert_sst2", "checkpoint": 4, "task": "sst2", "split": "train", "rows": 6, "width": 4}
    kinds = st.sampled_from(["logitsbank", "membank", "other"])
    shapes = st.lists(st.integers(0, 6), max_size=3)
    rows = st.one_of(
        st.just(torch.ones(6, 4)), shapes.map(torch.ones), shapes.map(lambda shape: torch.ones(shape).int())
    )
    held = cases.draw(st.one_of(st.dictionaries(kinds, rows, max_size=2), rows, st.just("a bank")))
    if isinstance(held, dict) and cases.draw(st.booleans()):
        held["about"] = cases.draw(st.one_of(st.just(about), st.dictionaries(st.sampled_from(list(about)), ANY), ANY))
    torch.save(held, file)
    file.write_bytes(cases.draw(spoiled(file.read_bytes())))
    read_or_refused(lambda: open_bank(file, about, 4))
    read_or_refused(lambda: is_there(file, about, False))


@pytest.mark.slow
@given(cases=st.data())
@fuzz
def test_damaged_scores_and_provenance_are_read_or_refused(cases, tmp_path):
    scores = json.dumps({"rows": 8, "checkpoints": {"2": {"loss": 0.5, "accuracy": 0.5}}, "best": {}}).encode()
    (tmp_path / "eval_dev.json").write_bytes(cases.draw(spoiled(scores)))
    (tmp_path / "eval_test.json").write_text(json.dumps(cases.draw(ANY)), encoding="utf-8")
    (tmp_path / "run.json").write_bytes(cases.draw(spoiled(b'{"argv": ["run_lad_distil.py"], "end": "now"}')))
    read_or_refused(lambda: read_scores(tmp_path / "eval_dev.json"))
    read_or_refused(lambda: read_scores(tmp_path / "eval_test.json"))
    read_or_refused(lambda: is_complete(tmp_path))


@given(cases=st.data())
@fuzz
def test_damaged_logs_are_read_or_refused(cases, tmp_path):
    entries = [{"step": step, "loss": 1 / step, "gate_2": 0.5, "lr": 1e-3} for step in (1, 2, 3)]
    lines = "\n".join(map(json.dumps, entries)).encode() + b"\n"
    (tmp_path / "metrics.jsonl").write_bytes(cases.draw(spoiled(lines)))
    (tmp_path / "config.json").write_bytes(CONFIG)
    read_or_refused(lambda: read_runs([tmp_path]))


SPOILT: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a loop": lambda file: (file.unlink(), file.symlink_to(file.name)),
    "a dangling link": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "git-lfs": lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "another's": lambda file: file.write_bytes((file.parent / "config.json").read_bytes()),
    "capitals": lambda file: file.rename(file.with_name(file.name.upper())),
    "no rights": lambda file: file.chmod(0),
}


@pytest.mark.slow
@given(cases=st.data())
@fuzz
def test_encoders_of_any_layout_are_read_or_refused(cases, encoder, tmp_path):
    """Files that are missing, links, folders, pointers, of no rights; JSON with values of another kind."""
    folder = tmp_path / "encoder"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(encoder, folder)
    names = sorted(file.name for file in folder.iterdir())
    changes = cases.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(sorted(SPOILT)), max_size=3))
    for name in sorted(changes, reverse=True):  # `config.json` late: others may take its content
        SPOILT[changes[name]](folder / name)
    if "config.json" not in changes and cases.draw(st.booleans()):
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        values[cases.draw(st.sampled_from([*sorted(values), "position_embedding_type"]))] = cases.draw(ANY)
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
        changes["value"] = "another"
    read_or_refused(lambda: pretrained_encoder(str(folder)), not changes)
    read_or_refused(lambda: load_tokenizer(str(folder)), not changes)


VARIABLES = (*LAUNCHER, "LOCAL_RANK", "MPLBACKEND", "PYTHONIOENCODING", "LC_ALL", "HOME", "DATA_DIR", "GOMP_SPINCOUNT")


@given(
    values=st.dictionaries(
        st.sampled_from(VARIABLES), st.sampled_from(["", "0", "1", "-1", "x", "1e9", "~", "a/b", "\u00e9"])
    )
)
@fuzz
def test_any_environment_is_one_process_or_a_torchrun_world(values, capsys):
    with pytest.MonkeyPatch.context() as patch:
        for name in (*VARIABLES, "OMP_WAIT_POLICY"):
            patch.delenv(name, raising=False)
        for name, value in values.items():
            patch.setenv(name, value)
        host.settle()
        whole = (
            values.keys() >= {*LAUNCHER}
            and all(map(values.get, LAUNCHER))
            and values["RANK"].isdecimal()
            and values["WORLD_SIZE"].isdecimal()
        )
        assert rank.world_size() >= 0 and (whole or (rank.world_size(), rank.rank(), rank.local_rank()) == (1, 0, 0))
        if values.get("DATA_DIR") == values.get("HOME") == "~":
            with pytest.raises(ValueError, match="~: there is no home folder that ~ stands for"):
                data_dir()
        else:
            assert data_dir().is_absolute()
        assert rank.is_main() == (rank.rank() == 0)
        assert os.environ["MPLBACKEND"] == "agg"
        spins = values.get("GOMP_SPINCOUNT", host.SPINS)  # a value of the user's own stays
        assert os.environ["GOMP_SPINCOUNT"] == spins


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
BESIDE = (
    "SST-2/",
    "SST-2/README",
    "SST-2/original/x.txt",
    "__MACOSX/SST-2/._train.tsv",
    "SST-2/.DS_Store",
    "other/train.tsv",
)
INSIDE = (
    "SST-2/train.tsv",
    "sst-2/train.tsv",
    "train.tsv",
    "./SST-2/train.tsv",
    "data/SST-2/train.tsv",
    "SST-2/TRAIN.TSV",
)


@given(cases=st.data())
@fuzz
def test_archives_of_any_kind_are_unpacked_or_refused(cases, tmp_path):
    """Every compression, with comments, notes, folders, doubles; a sound one gives its table and nothing else."""
    buffer, inside = io.BytesIO(), cases.draw(st.sampled_from(INSIDE))
    beside = cases.draw(st.lists(st.sampled_from(BESIDE), max_size=3, unique=True))
    double = cases.draw(st.booleans()) and cases.draw(st.booleans())
    with (
        zipfile.ZipFile(buffer, "w", cases.draw(st.sampled_from(METHODS))) as archive,
        warnings.catch_warnings(action="ignore"),
    ):
        archive.comment = cases.draw(st.binary(max_size=30))
        for name in (*beside, inside, *([inside] if double else [])):
            archive.writestr(name, b"" if name.endswith("/") else table("sst2"))
    content = bytearray(buffer.getvalue())
    locked = cases.draw(st.booleans()) and cases.draw(st.booleans())
    if locked:  # the flag of an encrypted member
        for at in (found.start() for found in re.finditer(rb"PK\x01\x02", bytes(content))):
            content[at + 8] |= 1
    (tmp_path / "archive.zip").write_bytes(content)
    to = tmp_path / "to"
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    sound = inside == "SST-2/train.tsv" and not double and not locked
    read_or_refused(lambda: unpack(tmp_path / "archive.zip", TASKS["sst2"], "SST-2/", to), sound)
    assert {path.name for path in tmp_path.iterdir()} == {"archive.zip", "to"}
    assert {path.name for path in to.iterdir()} <= {"train.tsv", "README"}
    if sound:
        assert (to / "train.tsv").read_bytes() == table("sst2")


MEMBERS = ["SST-2/dev.tsv", "../x.tsv", "/x.tsv", "SST-2/../../x", "a\\..\\x"]


@given(cases=st.data())
@fuzz
def test_damaged_archives_leave_nothing_outside(cases, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("SST-2/train.tsv", table("sst2"))
        archive.writestr(cases.draw(st.sampled_from(MEMBERS)), "x")
    (tmp_path / "archive.zip").write_bytes(cases.draw(spoiled(buffer.getvalue())))
    to = tmp_path / "to"
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    read_or_refused(lambda: unpack(tmp_path / "archive.zip", TASKS["sst2"], "SST-2/", to))
    assert {path.name for path in tmp_path.iterdir()} == {"archive.zip", "to"}


FLAGS = (
    "--lr",
    "--total_step",
    "--experiment",
    "--task",
    "--seed",
    "--batch_size",
    "--amp",
    "--teacher_exp",
    "--epoch",
    "--cls_steps",
    "--contrast_steps",
    "--src_experiment",
)
PARSED = (STUDENT_GROUPS, *(TABLE[name].groups for name in ("match", "contrast", "layerwise_contrast", "kd_from_ckpt")))
VALUES = ("1", "-1", "0", "nan", "inf", "1e999", "sst2", "x")
WORDS = st.one_of(st.sampled_from(FLAGS), st.sampled_from(VALUES), st.text(max_size=6))


@given(words=st.lists(WORDS, max_size=8), groups=st.sampled_from(PARSED))
@fuzz
def test_any_command_line_is_taken_or_refused_in_one_line(words, groups, capsys):
    parser = Parser("A script.", groups)
    try:
        args = parser.parse_args(words)
        with usage_errors(parser):
            parser.flags(args)
    except SystemExit as end:
        told = capsys.readouterr()
        assert end.code == 2 and told.err.count("\n") == 1 or end.code == 0 and told.out


def test_nested_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ValueError, match="not a JSON file"):
        read_json(tmp_path / "config.json")


CACHED = [
    "row_id.npy",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("states.npy", "logits.npy", "check.json")),
]


@pytest.mark.parametrize("name", CACHED)
def test_a_damaged_cache_is_refused_in_one_line_that_names_it(name, data, run, teacher, refused):
    words = ("--teacher_exp", "teacher", "--task", "sst2", "--device_id", -1, "--total_step", 1, "--batch_size", 8)
    words += ("--teacher_cache", "states", "--no_preflight")
    run("run_lad_distil", "--experiment", "x", *words)
    for file in (data.root / "cache").rglob(name):
        file.write_bytes(file.read_bytes()[: 0 if name == "check.json" else 100])
    told = refused("run_lad_distil", "--experiment", "y", *words)
    assert f"{data.root / 'cache'}" in told and ("a damaged cache" in told and "delete it" in told)
