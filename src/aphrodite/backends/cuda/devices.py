"""Which device and which number format."""

from collections.abc import Mapping
from typing import Any

import torch

from aphrodite.domain.config import Dtype
from aphrodite.domain.errors import BackendError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one, else the CPU. Raises BackendError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"Unknown device {name!r}; use auto, cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise BackendError(f"The cuda backend runs on cuda and cpu devices, not on {name!r}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"Device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices; use device='cpu'."
        )
    return device


def choose_dtype(name: Dtype, config: Mapping[str, Any], device: torch.device) -> torch.dtype:
    """The format of that name; "auto" is the checkpoint's on a GPU, and on a CPU the one that it is fastest in.

    That is bfloat16 for a checkpoint in 16 bits on a processor that multiplies it, else float32. Raises BackendError.
    """
    chosen: str = name
    if name == "auto":
        text = config.get("text_config") or config
        chosen = str(config.get("dtype") or text.get("dtype") or "bfloat16").removeprefix("torch.")
        if device.type == "cpu":
            is_faster = chosen in ("bfloat16", "float16") and _multiplies_bfloat16()
            chosen = "bfloat16" if is_faster else "float32"
    formats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if chosen not in formats:
        raise BackendError(f"The checkpoint's number format {chosen!r} is not supported; choose dtype='bfloat16'.")
    return formats[chosen]


def describe_device(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def explain_dtype(name: Dtype, chosen: torch.dtype, device: torch.device) -> str:
    """Why `choose_dtype` chose what it did."""
    if name != "auto":
        return "as asked for"
    if device.type != "cpu" or (chosen == torch.float32 and _multiplies_bfloat16()):
        return "the checkpoint's"
    return f"this processor multiplies {'' if chosen == torch.bfloat16 else 'no '}bfloat16"


def _multiplies_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
