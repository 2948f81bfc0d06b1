"""Tests of what surrounds a script: an older Python, threads that wait, a model hub out of reach."""

import ast
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fine_tune import hub
from fine_tune.hardware import threads
from fine_tune.path import PROJECT

SCRIPTS = sorted(PROJECT.glob("*.py"))
OLDER = [found for name in ("3.10", "3.9", "3.8") if (found := shutil.which(f"python{name}"))]


def asked(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120)


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
    for python in OLDER:
        if asked([python, "--version"]).returncode:
            continue  # a shim of a version manager, with nothing behind it
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
    [({}, threads.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
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
    why = hub.missing("some-name", OSError("a\nb"))
    assert why.startswith("no such folder, and HF_HUB_OFFLINE forbids") and "\n" not in why
