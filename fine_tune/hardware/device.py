"""Which device each model lives on, and how tensors get there."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def resolve_device(device_id: int | None, flag: str = "--device_id") -> torch.device:
    """Turn a device number into a device; None picks the first GPU, or the CPU where there is none.

    Raises:
        ValueError: This machine has no such GPU.
    """
    count = torch.cuda.device_count()
    if device_id is None:
        device_id = 0 if count else -1
    if device_id >= count:
        raise ValueError(f"{flag} {device_id}: this machine has {count} GPUs; -1 stands for the CPU")
    return torch.device("cpu") if device_id < 0 else torch.device("cuda", device_id)


def device_number(device: torch.device) -> int:
    """Turn a device back into its number, -1 for the CPU."""
    return device.index if device.type == "cuda" else -1


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors inside tuples, lists and dictionaries; a copy to a GPU does not wait, one to the CPU must."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=device.type == "cuda")
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [to_device(item, device) for item in value]
    return value
