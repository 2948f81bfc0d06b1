"""Tests of fetching official data: mirrors, damaged and hostile archives, and what may be touched on disk."""

import http.server
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import prepare_data
from fine_tune.path import PROJECT
from fine_tune.tasks import download as archive
from fine_tune.tasks.download import SOURCES, prepare
from fine_tune.tasks.rows import read_split
from fine_tune.tasks.table import TASKS

TRAIN = "sentence\tlabel\na fine film \t1\na dull film \t0\n"
DEV = "sentence\tlabel\nfine \t1\n"
TEST = "index\tsentence\n0\twell\n1\thm\n"
SST2 = {"SST-2/train.tsv": TRAIN, "SST-2/dev.tsv": DEV, "SST-2/test.tsv": TEST}
MRPC_HEADER = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
MRPC_TRAIN = (
    f"{MRPC_HEADER}\r\n"
    "1\t7\t8\tHe said \"no.\tHe said no.\r\n0\t9\t10\tOne.\tTwo.\r\n1\t8\t7\tA.\tA .\r\n"
)  # fmt: skip
MRPC_FILES = {
    "msr_paraphrase_train.txt": MRPC_TRAIN,
    "msr_paraphrase_test.txt": f"{MRPC_HEADER}\r\n1\t3\t4\tX.\tY.\r\n0\t5\t6\tU.\tV.\r\n",
    "mrpc_dev_ids.tsv": "9\t10\n",
}


def packed(members: Mapping[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as zipped:
        for name, text in members.items():
            zipped.writestr(name, text)
    return buffer.getvalue()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives an empty mirror folder, beside an empty data folder."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("GLUE_MIRROR", str(folder))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return folder


@pytest.fixture
def pages(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, int, bytes]]]:
    """Serves a mirror on the loopback address: status, announced length and content by file name."""
    served: dict[str, tuple[int, int, bytes]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, length, body = served.get(self.path.removeprefix("/glue/"), (404, 0, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("GLUE_MIRROR", f"http://127.0.0.1:{server.server_port}/glue/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield served
        server.shutdown()


def data(tmp_path: Path) -> dict[str, str]:
    """Returns every file under the data folder with its text."""
    folder = tmp_path / "data" / "fine_tune"
    files = [file for file in folder.rglob("*") if not file.is_dir()]
    return {str(file.relative_to(folder)): file.read_bytes().decode() for file in files}


def test_archive_is_put_in_place_once(mirror: Path, tmp_path: Path) -> None:
    """Splits and notes are extracted, other members are not, and the second time nothing is fetched."""
    kept = {**SST2, "SST-2/README.md": "a note", "SST-2/LICENSE": "terms"}
    others = {"SST-2/original/train.tsv": "x", "__MACOSX/SST-2/._train.tsv": "x", "SST-2/run.sh": "x", "train.tsv": "x"}
    (mirror / "SST-2.zip").write_bytes(packed({**kept, **others}))
    assert prepare(TASKS["sst2"]) == ("from SST-2.zip", {"train": 2, "dev": 1, "test": 2})
    assert data(tmp_path) == kept
    assert [file.name for file in (tmp_path / "data" / "fine_tune").iterdir()] == ["SST-2"]
    (mirror / "SST-2.zip").unlink()
    assert prepare(TASKS["sst2"]) == ("already there", {"train": 2, "dev": 1, "test": 2})


def test_files_of_the_user_are_replaced_only_when_told(mirror: Path, tmp_path: Path) -> None:
    """Data that is there stays, half of it is an error, and even --overwrite keeps what is no data."""
    (mirror / "SST-2.zip").write_bytes(packed({**SST2, "SST-2/README.md": "theirs"}))
    folder = tmp_path / "data" / "fine_tune" / "SST-2"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("mine")
    assert prepare(TASKS["sst2"])[0] == "from SST-2.zip"
    assert (folder / "README.md").read_text() == "mine"

    mine = "sentence\tlabel\nmine\t1\n"
    (folder / "train.tsv").write_text(mine)
    assert prepare(TASKS["sst2"]) == ("already there", {"train": 1, "dev": 1, "test": 2})
    (folder / "dev.tsv").unlink()
    with pytest.raises(ValueError, match=r"SST-2 has train, test but no dev; .*--overwrite"):
        prepare(TASKS["sst2"])
    (folder / "dev.tsv").write_text("sentence\tlabel\nmine\t7\n")
    with pytest.raises(ValueError, match=r"dev.tsv:2: unknown label '7'.*--overwrite"):
        prepare(TASKS["sst2"])
    assert (folder / "train.tsv").read_text() == mine

    (folder / "my.txt").write_text("mine")
    prepare(TASKS["sst2"], overwrite=True)
    assert data(tmp_path) == {**SST2, "SST-2/README.md": "theirs", "SST-2/my.txt": "mine"}


def test_address_can_be_a_mirror(pages: dict[str, tuple[int, int, bytes]], tmp_path: Path) -> None:
    """An archive is downloaded, read and put in place, and nothing else is left."""
    body = packed(SST2)
    pages["SST-2.zip"] = (200, len(body), body)
    assert prepare(TASKS["sst2"])[0] == "from SST-2.zip"
    assert data(tmp_path) == SST2


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (None, r"/glue/SST-2.zip: HTTP 404 Not Found; set GLUE_MIRROR"),
        ((500, 0, b""), r"/glue/SST-2.zip: HTTP 500 Internal Server Error; set GLUE_MIRROR"),
        ((200, 1000, packed(SST2)), r"/glue/SST-2.zip: .*(truncated, got \d+ of 1000 bytes|IncompleteRead)"),
        ((200, 8, b"<html />"), r"SST-2.zip is truncated or damaged in its table of contents"),
    ],
)
def test_failed_download_leaves_nothing(
    pages: dict[str, tuple[int, int, bytes]], tmp_path: Path, page: tuple[int, int, bytes] | None, reason: str
) -> None:
    """Whatever goes wrong is said with the address, and the data folder stays empty."""
    if page:
        pages["SST-2.zip"] = page
    with pytest.raises((OSError, ValueError), match=reason):
        prepare(TASKS["sst2"])
    assert list((tmp_path / "data" / "fine_tune").iterdir()) == []


@pytest.mark.parametrize("status", [403, 404, 410])
def test_next_source_is_tried_where_the_first_is_missing(pages: dict[str, tuple[int, int, bytes]], status: int) -> None:
    """An address that does not have GLUE's MNLI, in whichever words it says so, is asked for the authors' own."""
    row = '{"gold_label": "neutral", "sentence1": "A", "sentence2": "B"}\n'
    body = packed(
        {f"multinli_1.0/multinli_1.0_{name}.jsonl": row for name in ("train", "dev_matched", "dev_mismatched")}
    )
    pages |= {"MNLI.zip": (status, 0, b""), "multinli_1.0.zip": (200, len(body), body)}
    assert prepare(TASKS["mnli"])[0] == "from multinli_1.0.zip"


def test_no_connection(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that cannot be reached is one line with the address and what to do."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GLUE_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"^http://127.0.0.1:9/RTE.zip: .*refused.*; set GLUE_MIRROR[^\n]*$"):
        prepare(TASKS["rte"])


@pytest.mark.parametrize(("task", "address"), [(task, sources[0][0]) for task, sources in SOURCES.items()])
def test_official_address_is_used_without_a_mirror(
    mirror: Path, monkeypatch: pytest.MonkeyPatch, task: str, address: str
) -> None:
    """Without GLUE_MIRROR the first request goes to the official address, and no bare name is asked for."""
    asked = []

    def download(address: str, file: Path) -> Path:
        asked.append(address)
        raise FileNotFoundError(address)

    monkeypatch.delenv("GLUE_MIRROR")
    monkeypatch.setattr(archive, "download", download)
    with pytest.raises(FileNotFoundError, match="set GLUE_MIRROR"):
        prepare(TASKS[task])
    assert asked[0] == address
    assert all(re.match(r"https://(dl\.fbaipublicfiles\.com|cims\.nyu\.edu)/", wanted) for wanted in asked)


def test_damaged_archives_are_named(mirror: Path, tmp_path: Path) -> None:
    """A cut archive, a wrong byte and an archive of nothing are told apart from good ones."""
    whole = packed(SST2, zipfile.ZIP_STORED)
    (mirror / "SST-2.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"SST-2.zip is truncated or damaged in its table of contents"):
        prepare(TASKS["sst2"])
    (mirror / "SST-2.zip").write_bytes(whole.replace(b"a dull film", b"a gold film"))
    with pytest.raises(ValueError, match=r"SST-2.zip is truncated or damaged in SST-2/train.tsv: Bad CRC-32"):
        prepare(TASKS["sst2"])
    (mirror / "SST-2.zip").write_bytes(packed(SST2)[:60] + b"\xff" * 9 + packed(SST2)[69:])
    with pytest.raises(ValueError, match=r"SST-2.zip is truncated or damaged in SST-2/train.tsv"):
        prepare(TASKS["sst2"])
    (mirror / "SST-2.zip").write_bytes(packed({"SST-2/train.tsv": TRAIN}))
    with pytest.raises(ValueError, match=r"SST-2.zip holds no dev.tsv"):
        prepare(TASKS["sst2"])
    (mirror / "SST-2.zip").write_bytes(packed({**SST2, "SST-2/dev.tsv": DEV + "no label\n"}))
    with pytest.raises(ValueError, match=r"^SST-2.zip: dev.tsv:3: expected 2 columns, got 1$"):
        prepare(TASKS["sst2"])
    assert data(tmp_path) == {}


@pytest.mark.parametrize("name", ["../evil.tsv", "/evil.tsv", "SST-2/../../evil.tsv", "SST-2\\..\\evil.tsv", "link"])
def test_hostile_members_are_refused(mirror: Path, tmp_path: Path, name: str) -> None:
    """Members that leave the folder, and links, end the work before anything is written."""
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK if name == "link" else stat.S_IFREG | 0o644) << 16
    (mirror / "SST-2.zip").write_bytes(packed(SST2))
    with zipfile.ZipFile(mirror / "SST-2.zip", "a") as zipped:
        zipped.writestr(member, "/etc/passwd")
    with pytest.raises(ValueError, match=r"SST-2.zip: refused, as .* is a link or leaves the folder"):
        prepare(TASKS["sst2"])
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["SST-2.zip"]


def test_bombs_are_refused(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a single file nor all together may grow beyond reason."""
    (mirror / "SST-2.zip").write_bytes(packed({**SST2, "SST-2/train.tsv": " " * 2**22}))
    with pytest.raises(ValueError, match=r"refused, as 'SST-2/train.tsv' unpacks to 4194304 bytes"):
        prepare(TASKS["sst2"])
    (mirror / "SST-2.zip").write_bytes(packed(SST2))
    monkeypatch.setattr(archive, "TOTAL_SIZE", len(TRAIN) + 1)
    with pytest.raises(ValueError, match=r"refused, as 'SST-2/dev.tsv' unpacks"):
        prepare(TASKS["sst2"])
    assert data(tmp_path) == {}


def test_mrpc_is_built_from_its_three_files(mirror: Path, tmp_path: Path) -> None:
    """Rows whose pair of ids, in this order, is a dev id make the dev split; test rows lose their labels."""
    for name, text in MRPC_FILES.items():
        (mirror / name).write_bytes(text.encode())
    source, counts = prepare(TASKS["mrpc"])
    assert source == "from msr_paraphrase_train.txt + msr_paraphrase_test.txt + mrpc_dev_ids.tsv"
    assert counts == {"train": 2, "dev": 1, "test": 2}
    assert data(tmp_path) == {
        "MRPC/train.tsv": f"{MRPC_HEADER}\n" + '1\t7\t8\tHe said "no.\tHe said no.\n1\t8\t7\tA.\tA .\n',
        "MRPC/dev.tsv": f"{MRPC_HEADER}\n0\t9\t10\tOne.\tTwo.\n",
        "MRPC/test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t3\t4\tX.\tY.\n1\t5\t6\tU.\tV.\n",
    }


def test_mrpc_can_be_an_archive(mirror: Path, tmp_path: Path) -> None:
    """A mirror with MRPC.zip will do; with neither, both are named."""
    with pytest.raises(FileNotFoundError, match=r"msr_paraphrase_train.txt is not there; .*MRPC.zip is not there"):
        prepare(TASKS["mrpc"])
    members = {"MRPC/train.tsv": MRPC_TRAIN, "MRPC/dev.tsv": MRPC_TRAIN}
    (mirror / "MRPC.zip").write_bytes(packed(members))
    assert prepare(TASKS["mrpc"]) == ("from MRPC.zip", {"train": 3, "dev": 3})
    assert data(tmp_path) == members


def test_multinli_stands_in_for_mnli(mirror: Path, tmp_path: Path) -> None:
    """The authors' archive is used where GLUE's is not; neither is put beside files of the other's layout."""
    row = '{"gold_label": "neutral", "sentence1": "A", "sentence2": "B"}\n'
    names = ("train", "dev_matched", "dev_mismatched")
    (mirror / "multinli_1.0.zip").write_bytes(
        packed({f"multinli_1.0/multinli_1.0_{name}.{suffix}": row for name in names for suffix in ("jsonl", "txt")})
    )
    assert prepare(TASKS["mnli"]) == ("from multinli_1.0.zip", dict.fromkeys(names, 1))
    assert data(tmp_path) == {f"mnli/{name}.jsonl": row for name in names}
    assert read_split(TASKS["mnli"], "dev_matched")[0].text == ("A", "B")

    tsv = "index\tsentence1\tsentence2\tgold_label\n0\tA\tB\tneutral\n1\tA\tB\tentailment\n"
    (mirror / "MNLI.zip").write_bytes(packed({f"MNLI/{name}.tsv": tsv for name in names}))
    folder = tmp_path / "data" / "fine_tune"
    before = data(tmp_path)
    told = f"{folder}/mnli/train.jsonl is of another layout than MNLI.zip; move {folder}/mnli away first"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        prepare(TASKS["mnli"], overwrite=True)
    assert data(tmp_path) == before
    shutil.rmtree(folder / "mnli")
    assert prepare(TASKS["mnli"], overwrite=True) == ("from MNLI.zip", dict.fromkeys(names, 2))
    (mirror / "MNLI.zip").unlink()
    before = data(tmp_path)
    told = f"{folder}/MNLI/train.tsv is of another layout than multinli_1.0.zip; move {folder}/MNLI away first"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        prepare(TASKS["mnli"], overwrite=True)
    assert data(tmp_path) == before


def test_script(mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script prints a line per split, and ends on one line and status 2 where it fails."""
    (mirror / "SST-2.zip").write_bytes(packed({name: SST2[name] for name in list(SST2)[:2]}))
    folder = tmp_path / "data" / "fine_tune" / "SST-2"
    for source in ("from SST-2.zip", "already there"):
        prepare_data.main(["--task", "SST-2"])
        lines = [f"{folder}/train.tsv: 2 rows ({source})", f"{folder}/dev.tsv: 1 rows ({source})"]
        assert capsys.readouterr().out.splitlines() == [*lines, "test: not in the data"]
    for task, reason in (("rte", "RTE.zip is not there"), ("sample", "has no archive"), ("x", "must be one of")):
        with pytest.raises(SystemExit) as stop:
            prepare_data.main(["--task", task])
        assert stop.value.code == 2
        assert reason in capsys.readouterr().err.splitlines()[-1]


def test_shell_script_runs_from_anywhere(mirror: Path, tmp_path: Path) -> None:
    """The script beside the recipes finds the project and its Python, and passes its arguments on."""
    script = ["bash", str(PROJECT / "scripts" / "prepare_sst2.sh"), "--overwrite"]
    variables = {**os.environ, "VIRTUAL_ENV": sys.prefix, "EXTRA_ARGS": ""}
    failed = subprocess.run(script, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert failed.returncode == 2 and "SST-2.zip is not there" in failed.stderr and "Traceback" not in failed.stderr
    (mirror / "SST-2.zip").write_bytes(packed(SST2))
    subprocess.run(script, cwd=tmp_path, env=variables, capture_output=True, check=True)
    assert data(tmp_path) == SST2


MIRRORS = [Path(folder) for folder in (os.environ.get("GLUE_MIRROR"), PROJECT.parent / "shared" / "data") if folder]
REAL = next((folder for folder in MIRRORS if folder.is_dir()), None)


def real_archives() -> dict[str, str]:
    """Returns the tasks that the mirror on this machine has, each with its archive."""
    found: dict[str, str] = {}
    for task, sources in SOURCES.items():
        for addresses in sources:
            names = [address.rpartition("/")[2] for address in addresses]
            if REAL and all((REAL / name).is_file() for name in names):
                found.setdefault(task, names[0])
    return found


def recorded_rows(name: str) -> list[int]:
    """Returns the row counts that the mirror's README gives for an archive, in the order of the splits."""
    assert REAL
    readme = REAL / "README.md"
    for line in readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else ():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 5 and cells[1] == name:  # in "1,000 of 9,832" the second number is not ours
            numbers = re.findall(r"(?<!of )(?<![\d,])\d[\d,]*", " ".join(cells[3:6]))
            return [int(number.replace(",", "")) for number in numbers]
    return []


if REAL_ARCHIVES := real_archives():

    @pytest.mark.slow
    @pytest.mark.parametrize(("task", "name"), REAL_ARCHIVES.items())
    def test_real_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, name: str) -> None:
        """Real data is prepared whole: its row counts are those that the mirror states."""
        monkeypatch.setenv("GLUE_MIRROR", str(REAL))
        monkeypatch.setenv("DATA_DIR", str(tmp_path))
        _, counts = prepare(TASKS[task])
        assert list(counts.values()) == (recorded_rows(name) or list(counts.values()))
        assert all(counts[split] > 0 for split in ("train", *TASKS[task].dev))
