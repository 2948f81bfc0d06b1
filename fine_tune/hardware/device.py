"""Which device each model lives on, and how tensors get there."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from fine_tune.hardware import rank


class Devices(NamedTuple):
    """Where the models of a run live.

    Attributes:
        teacher: Device of the teacher.
        parts: Device of every part that is trained, by its prefix; "" is the student.
    """

    teacher: torch.device
    parts: Mapping[str, torch.device]

    @property
    def student(self) -> torch.device:
        """Device of the student: batches, targets and losses are there, too."""
        return self.parts[""]

    def names(self) -> dict[str, str]:
        """Name the device of every model, for readers of the run."""
        parts = {prefix.rstrip("_") or "student": str(device) for prefix, device in self.parts.items()}
        return {"teacher": str(self.teacher), **parts}


def resolve_device(device_id: int | None, flag: str = "--device_id") -> torch.device:
    """Turn a device number into a device; None picks the first GPU, or the CPU where there is none.

    Raises:
        ValueError: This machine has no such GPU.
    """
    count = torch.cuda.device_count()
    if device_id is None:
        device_id = 0 if count else -1
    if device_id >= count:
        gpus = f"its GPUs are 0..{count - 1}" if count else "it has no GPU that torch can use"
        own = flag.replace("--num_gpu", "--device_id")
        cure = f"leave the flag out for the best device, or give {own} -1 for the CPU"
        raise ValueError(f"{flag}: this machine has no GPU {device_id}, {gpus}; {cure}")
    return torch.device("cpu") if device_id < 0 else torch.device("cuda", device_id)


def home_device(device_id: int | None, *others: int | None, flag: str = "--device_id") -> torch.device:
    """Resolve the device of the student, or of a model that is only read.

    Under torchrun every process has one device: a GPU of its own, or the CPU.

    Args:
        device_id: `--device_id`; None for the best.
        others: Device numbers of the other models; None where they follow the student.
        flag: The flag that was typed, for messages.

    Raises:
        ValueError: There is no such device, or torchrun is to place the models and a flag does, too.
    """
    if rank.world_size() > 1:
        if device_id not in (None, -1) or any(other is not None for other in others):
            raise ValueError(
                "under torchrun every process has one device: give --device_id -1 (CPU), or none of the flags"
            )
        if device_id is None and torch.cuda.is_available():
            device_id = rank.local_rank()
    return resolve_device(device_id, flag)


def device_number(device: torch.device) -> int:
    """Turn a device back into its number, -1 for the CPU."""
    return device.index if device.type == "cuda" else -1


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors inside tuples, lists and dictionaries; a copy to a GPU does not wait, one to the CPU must."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=device.type == "cuda")
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_device(item, device) for item in value]
    return value


class Elsewhere(nn.Module):
    """A module on another device than its caller's: inputs are moved there, outputs back.

    Args:
        module: The module, on `device`.
        device: Its device.
        home: Device of its caller.
    """

    def __init__(self, module: nn.Module, device: torch.device, home: torch.device) -> None:
        super().__init__()
        self.module = module
        self.device = device
        self.home = home

    def forward(self, *inputs: Any) -> Any:
        """Call the module."""
        return to_device(self.module(*to_device(inputs, self.device)), self.home)
