"""What a process sets up before it reads models, and how it tells its user what it found."""

import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import torch
import transformers

from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import EvalConfig, PrecisionConfig
from fine_tune.hardware import distributed, rank
from fine_tune.hardware.cpu.memory import keep_freed_memory
from fine_tune.hardware.device import home_device
from fine_tune.hardware.precision import resolve_precision
from fine_tune.hardware.seed import set_seed


def set_up_process(seed: int = 0, device: torch.device | None = None) -> None:
    """Set up memory, seeds, other processes, and messages: ours from INFO on, the libraries' errors only."""
    distributed.start(device or torch.device("cpu"))
    set_seed(seed)
    keep_freed_memory()
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew, for half a second, at every new length of a batch
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("fine_tune").setLevel(logging.INFO if rank.is_main() else logging.ERROR)
    if not rank.is_main():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def prepare_reading(flags: Flags) -> tuple[Flags, torch.device]:
    """Set up a process that reads a run: choose its precision and its device.

    Raises:
        ValueError: There is no such device, or it does not have the precision.
    """
    device, precision = home_device(flags[EvalConfig].device_id), flags[PrecisionConfig]
    chosen = resolve_precision(precision.precision, precision.amp, device)
    set_up_process(device=device)
    return flags.replaced(dataclasses.replace(precision, precision=chosen)), device


def print_table(title: str, values: Mapping[str, Any]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, values))
    print(f"\n{title}\n" + "\n".join(f"  {name:<{width}}  {value}" for name, value in values.items()), flush=True)
