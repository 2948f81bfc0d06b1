"""What the benchmarks share: a data folder of their own, a timer that replaces a run's progress line, memory."""

import argparse
import contextlib
import io
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedTokenizerBase

import run_fine_tune
from fine_tune.data.batches import Batch
from fine_tune.data.tokens import Split
from fine_tune.flags.shared import RunConfig
from fine_tune.hardware.cpu import linear
from fine_tune.hardware.precision import DTYPES
from fine_tune.path import data_dir
from fine_tune.run import start

UNDISTURBED = ["--no_preflight", "--ckpt_step", "1000000", "--state_step", "1000000"]
"""Flags of a run that is timed."""
GEMM = 1024
"""Rows and columns of the product that tells a machine's rate."""


FLAGS: dict[str, dict[str, Any]] = {
    "batch_size": {"type": int, "default": 32, "help": "rows per update (default: 32)"},
    "max_seq_len": {"type": int, "default": 128, "help": "tokens at most (default: 128)"},
    "precision": {"choices": DTYPES, "default": "fp32", "help": "of ours, and of others that have it (default: fp32)"},
}


def command_line(description: str | None, *flags: str) -> argparse.ArgumentParser:
    """Start the command line of a benchmark: `--encoder`, and some of `FLAGS`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--encoder", required=True, help="hub name or folder of the teacher's encoder, a BERT")
    for flag in flags:
        made.add_argument(f"--{flag}", **FLAGS[flag])
    return made


class FinishedError(Exception):
    """A benchmark has seen enough of a run."""


@contextlib.contextmanager
def own_data_dir() -> Iterator[Path]:
    """Work in a temporary data folder, which shares the user's rows and caches but not the runs."""
    real = data_dir()
    with tempfile.TemporaryDirectory(prefix="benchmark_") as name:
        for shared in ("fine_tune", "cache"):
            (real / shared).mkdir(parents=True, exist_ok=True)
            (Path(name) / shared).symlink_to(real / shared)
        with mock.patch.dict(os.environ, DATA_DIR=name):
            yield Path(name)


def make_teacher(args: argparse.Namespace, *flags: str) -> None:
    """Write the run `teacher`, the encoder as it is with a classifier, quietly."""
    encoder = ["--ptrain_ver", str(args.encoder), "--max_seq_len", str(args.max_seq_len)]
    with contextlib.redirect_stdout(io.StringIO()):
        run_fine_tune.main(["--experiment", "teacher", *encoder, "--total_step", "1", "--lr", "1e-9", *flags])


def write_encoder(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write an encoder of these sizes with random weights, and its tokenizer."""
    torch.manual_seed(42)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def ticking(tick: Callable[[], bool]) -> Iterator[None]:
    """Call `tick` after every update of the training script that runs inside; true ends the run."""

    class Clock(start.Session):
        def advance(self) -> None:
            if tick():
                raise FinishedError

    with mock.patch.object(start, "Session", Clock), contextlib.suppress(FinishedError):
        yield


@contextlib.contextmanager
def counting(tokens: list[int]) -> Iterator[None]:
    """Note the tokens, without padding, of every update of the training script that runs inside."""
    plain = start.updates_of

    def counted(cfg: RunConfig, rows: Split, done: int = 0, **more: Any) -> Iterator[list[Batch]]:
        for update in plain(cfg, rows, done, **more):
            tokens.append(sum(int(rows.lengths[batch.rows].sum()) for batch in update))
            yield update

    with mock.patch.object(start, "updates_of", counted):
        yield


def of_mean_length(seconds: float, tokens: Sequence[int], rows: Split, batch_size: int) -> float:
    """Turn the time of updates with these numbers of tokens into that of one update of the rows' mean length."""
    return seconds / sum(tokens) * float(rows.lengths.mean()) * batch_size


def synchronised(device: torch.device) -> float:
    """Wait for the device, then read the clock: seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], Any], device: torch.device, count: int = 1) -> float:
    """Time some work: seconds per call."""
    start = synchronised(device)
    for _ in range(count):
        work()
    return (synchronised(device) - start) / count


def product_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Measure FLOP/s of a square product: `gemm` as torch multiplies, on CPUs `onednn` too where `linear` calls it."""
    matrix = torch.randn(GEMM, GEMM, device=device, dtype=dtype)
    products = {"gemm": lambda: matrix @ matrix}
    if linear.AVAILABLE and device.type == "cpu":
        products["onednn"] = lambda: linear.product(matrix, matrix)
    return {name: 2 * GEMM**3 / seconds(product, device, 20) for name, product in products.items()}


def resident_peak() -> int:
    """Peak resident memory of this process in MB; Linux's `ru_maxrss` would start at the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 // 10**6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 10**6  # bytes on macOS
