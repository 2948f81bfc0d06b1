"""Scripts in forks of this process, which has imported everything already: a second each, where a start takes ten."""

import ctypes
import importlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch.distributed

from fine_tune.hardware import distributed

KILL_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG."""


def start(root: Path, log: Path, script: str, *words: object, ranks: int = 1) -> list[int]:
    """Start a script, in several processes if asked, as torchrun would; give the ids of the processes.

    Args:
        root: Data folder.
        log: File for what the script says.
        script: Its name.
        words: Its flags.
        ranks: How many processes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(ranks)}
    log.write_bytes(b"")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    processes = []
    for rank in range(ranks):
        process = os.fork()
        if not process:
            os.environ |= {**world, "DATA_DIR": str(root), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            run(script, [*map(str, words)], log)
        processes.append(process)
    return processes


def run(script: str, argv: list[str], log: Path) -> None:
    """Run a script's main as the whole of this process."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(KILL_WITH_PARENT, signal.SIGKILL)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), number)
            setattr(sys, name, open(number, "w", encoding="utf-8", buffering=1, closefd=False))
        sys.argv = [script]
        importlib.import_module(script).main(argv)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        if torch.distributed.is_initialized():
            distributed.stop()
        os._exit(code)


def running(processes: Sequence[int]) -> list[int]:
    """Give those that have not ended."""
    return [one for one in processes if not os.waitid(os.P_PID, one, os.WEXITED | os.WNOHANG | os.WNOWAIT)]


def finish(processes: Sequence[int], seconds: float = 120) -> list[int]:
    """Wait for processes, and kill those that are still there after some time; give the exit codes, -9 for killed."""
    end = time.monotonic() + seconds
    while running(processes) and time.monotonic() < end:
        time.sleep(0.005)
    for process in running(processes):
        os.kill(process, signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
