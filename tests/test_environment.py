"""Tests of what surrounds a script: an older Python, threads that wait, a model hub out of reach."""

import ast
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Data

from fine_tune import hub
from fine_tune.hardware import host
from fine_tune.path import PROJECT

SCRIPTS = sorted(PROJECT.glob("*.py"))


@functools.cache
def older_pythons() -> list[str]:
    """Those of this machine; a shim of a version manager may have nothing behind it."""
    found = filter(None, (shutil.which(f"python{name}") for name in ("3.10", "3.9", "3.8")))
    return [python for python in found if not asked([python, "--version"]).returncode]


def asked(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_an_older_python_can_read_a_script_and_is_refused_in_one_line(script: Path) -> None:
    """Nothing of ours is imported before the check, which every script reaches: `fine_tune` comes first."""
    tree = ast.parse(script.read_text(encoding="utf-8"), feature_version=(3, 8))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    ours = [name for name in names if str(name).split(".")[0] not in sys.stdlib_module_names]
    assert ours[0].startswith(("fine_tune", "run_lad_distil"))  # the latter imports the former first
    for node in tree.body[: tree.body.index(imports[names.index(ours[0])])]:
        assert isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)
    for python in older_pythons():
        end = asked([python, str(script), "--help"])
        assert (end.returncode, end.stdout) == (2, "")
        assert end.stderr.startswith(f"{script.name}: error: Python 3.11 or later is needed, this is 3.")
        assert len(end.stderr.splitlines()) == 1


def test_this_python_is_not_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code = (PROJECT / "fine_tune" / "__init__.py").read_text(encoding="utf-8")
    exec(code, {})
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    monkeypatch.setattr(sys, "argv", ["/x/run_lad_distil.py"])
    with pytest.raises(SystemExit) as end:
        exec(code, {})
    assert end.value.code == 2
    assert capsys.readouterr().err == "run_lad_distil.py: error: Python 3.11 or later is needed, this is 3.10\n"


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, host.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(given: dict[str, str], found: str | None) -> None:
    """The variable is there before torch is imported."""
    code = (
        "import os, sys; from fine_tune.flags.parser import Parser; assert 'torch' not in sys.modules; "
        "Parser('x').parse_args([]); print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    variables = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    end = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=variables | given, capture_output=True, text=True, check=True
    )
    assert end.stdout.strip() == str(found)


@pytest.mark.slow
def test_a_hub_out_of_reach_is_not_asked_again_and_told_in_one_line(tmp_path: Path, data: object) -> None:
    """A name that is no folder; behind the proxy there is nobody. The library alone would ask a dozen times."""
    calls = []

    def answer(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                server.accept()[0].close()
                calls.append(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        words = ["--experiment", "x", "--task", "sst2", "--device_id", "-1", "--ptrain_ver", "some-encoder"]
        variables = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
        end = asked([sys.executable, str(PROJECT / "run_fine_tune.py"), *words], **variables)
    assert end.returncode == 2 and len(calls) in (1, 2)  # the second is the same request after a disconnection
    assert "no such folder, and the model hub cannot be reached (" in end.stderr
    assert len(end.stderr.splitlines()) == 1


def test_offline_is_no_question_to_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert hub.located("some-name") == ("some-name", {"trust_remote_code": False, "local_files_only": True})
    assert hub.located(str(tmp_path)) == (str(tmp_path), {"trust_remote_code": False})
    why = hub.missing("some-name", OSError("a\nb"), hub.CONFIG)
    assert why.startswith("no such folder, and HF_HUB_OFFLINE forbids") and "\n" not in why


@pytest.mark.parametrize(("count", "there"), [(0, "it has no GPU that torch can use"), (2, "its GPUs are 0..1")])
def test_a_missing_gpu_is_told_by_the_flag_that_was_typed(
    count: int, there: str, encoder: str, data: object, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    common = ("run_fine_tune", "--experiment", "x", "--task", "sst2", "--ptrain_ver", encoder)
    cure = "leave the flag out for the best device, or give --device_id -1 for the CPU"
    assert refused(*common, "--device_id", 7) == f"--device_id: this machine has no GPU 7, {there}; {cure}"
    if not count:
        assert refused(*common, "--num_gpu", 1) == f"--num_gpu: this machine has no GPU 0, {there}; {cure}"
        assert refused(*common, "--num_gpu=1").startswith("--num_gpu: ")


def test_the_older_spelling_of_the_device(encoder: str, data: Data, run: Callable[..., None]) -> None:
    words = ("--task", "sst2", "--ptrain_ver", encoder, "--max_seq_len", 24, "--total_step", 1, "--no_preflight")
    run("run_fine_tune", "--experiment", "x", "--num_gpu", 0, *words)
    assert data.config("x")["device_id"] == -1
    with pytest.raises(SystemExit) as end:
        run("run_fine_tune", "--experiment", "y", "--num_gpu", 2, *words)
    assert end.value.code == 2


def test_a_refusal_by_a_check_names_the_way_out(
    teacher: Path, data: Data, run: Callable[..., None], refused: Callable[..., str]
) -> None:
    """The flag that skips it; given, the same command runs."""
    words = ("--experiment", "x", "--teacher_exp", "teacher", "--task", "sst2", "--device_id", -1, "--batch_size", 8)
    wrong = (*words, "--total_step", 4, "--warmup_step", 4)
    assert refused("run_kd_distil", *wrong).endswith(" (--no_preflight starts without this check)")
    run("run_kd_distil", *wrong, "--no_preflight")
    assert data.metrics("x")[-1]["step"] == 4


def test_a_script_says_which_files_it_read(
    teacher: Path, data: Data, run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    train, dev = (data.root / "fine_tune" / "SST-2" / f"{split}.tsv" for split in ("train", "dev"))
    with caplog.at_level("INFO", logger="fine_tune"):
        run("run_fine_tune_eval", "--experiment", "teacher", "--task", "sst2", "--device_id", -1)
        assert f"sst2 dev: 8 rows of {dev}, all tokens known" in caplog.messages
        run("run_kd_distil", "--experiment", "x", "--teacher_exp", "teacher", "--task", "sst2", "--total_step", 1)
    assert f"sst2 train: 24 rows of {train}, all tokens known" in caplog.messages
