"""A teacher that is not there: its logits stand beside the rows, in the file that `run_fine_tune_gen_logits.py` writes.

Departure from the released code, where rows without logits are distilled towards a uniform target: they are refused.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from fine_tune.data.batches import Batch
from fine_tune.hardware.device import to_device
from fine_tune.teacher.protocol import TeacherOutput


class OfflineTeacher:
    """Logits of every row, kept in memory.

    Args:
        file: `<task>-distill.jsonl`.
        num_class: C.
        home: The student's device, where outputs go.

    Raises:
        ValueError: `file:line: reason` for the first row whose logits cannot be used.
    """

    def __init__(self, file: Path, num_class: int, home: torch.device) -> None:
        self.logits, self.home = read_logits(file, num_class), home

    def expect(self, update: list[Batch]) -> None:
        """Prepare nothing."""

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Look a batch up."""
        return TeacherOutput(to_device(self.logits[batch.rows], self.home), {})


def read_logits(file: Path, num_class: int) -> Tensor:
    """Read the logits (N, C) of a data set of offline distillation; its texts and labels are read with the rows.

    Raises:
        ValueError: `file:line: reason` for the first row whose logits cannot be used.
    """
    said = []
    with file.open(encoding="utf-8-sig", newline="\n") as lines:  # a text may hold other ends of lines
        for number, line in enumerate(filter(str.strip, lines), start=1):
            logits = json.loads(line).get("logits")
            numbers = isinstance(logits, list) and all(type(value) in (int, float) for value in logits)
            if not numbers or len(logits) != num_class:
                raise ValueError(f"{file}:{number}: logits must be {num_class} numbers, got {str(logits)[:60]}")
            said.append(logits)
    found = torch.tensor(said)
    if not (finite := found.isfinite().all(-1)).all():
        raise ValueError(f"{file}:{int((~finite).nonzero()[0]) + 1}: logits that are not finite")
    return found
