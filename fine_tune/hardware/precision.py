"""The floating-point format of matrix products (`--precision`, `--amp`).

Parameters that learn, losses, norms and statistics of targets are float32 always. Beside torch's autocast:

1. A frozen model stores its matrices in the low precision; autocast would convert them in every step.
2. On a CPU, the states between the layers are in the low precision, too; layer norms compute in float32 inside.
"""

import platform

import torch
from torch import nn
from transformers import PreTrainedModel

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself; emulated products are slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not torch.backends.mkldnn.is_available():
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):  # oneDNN also emulates it there, on AVX-512 without bfloat16
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def resolve_precision(precision: str | None, amp: bool, *devices: torch.device) -> str:
    """Choose the precision: `precision`, or with `amp` the best half precision that all devices have, or fp32.

    Raises:
        ValueError: A device has none of it.
    """
    everywhere = all(has_bfloat16(device) for device in devices)
    on_gpu = all(device.type == "cuda" for device in devices)
    where = ", ".join(sorted({str(device) for device in devices}))
    if amp and precision not in (None, "bf16", "fp16"):
        raise ValueError(f"--amp and --precision {precision} contradict each other; leave one out")
    if amp and precision is None:
        precision = "bf16" if everywhere or not on_gpu else "fp16"
    if precision == "bf16" and not everywhere:
        raise ValueError(f"bfloat16 (--amp, --precision bf16): {where} only emulates it, slower than --precision fp32")
    if precision == "fp16" and not on_gpu:
        raise ValueError(f"--precision fp16 is for GPUs; on {where} use fp32, or bf16 where the processor has it")
    return precision or "fp32"


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Compute matrix products in `dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def set_precision(model: nn.Module, precision: str) -> None:
    """Have a model that is on its device compute its products in a precision."""
    dtype = DTYPES[precision]
    learns = any(weights.requires_grad for weights in model.parameters())
    for module in model.modules():
        if hasattr(module, "product_dtype"):
            setattr(module, "product_dtype", dtype)  # noqa: B010 (of several classes)
        if isinstance(module, nn.Linear) and not learns:
            module.to(dtype)
        if isinstance(module, PreTrainedModel) and module.device.type == "cpu" and dtype != torch.float32:
            module.get_submodule("embeddings").register_forward_hook(lambda *call: call[-1].to(dtype))
