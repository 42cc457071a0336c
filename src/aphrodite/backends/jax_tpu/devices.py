"""Which devices and which number format."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aphrodite.domain.config import Dtype
from aphrodite.domain.errors import BackendError

_PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "gpu": "gpu", "tpu": "tpu"}


def choose_devices(name: str, count: int) -> list[jax.Device]:
    """`count` devices of a kind: auto (the best that jax sees), cpu, gpu (or cuda), tpu; gpu:1 starts at the second.

    Raises BackendError for a kind that is not there, or fewer devices than asked for.
    """
    kind, _, index = name.partition(":")
    if (kind != "auto" and kind not in _PLATFORMS) or (index and not index.isdigit()):
        raise BackendError(f"Unknown device {name!r}; use auto, cpu, gpu or tpu, or gpu:N to begin at the N-th.")
    try:
        found = jax.devices(None if kind == "auto" else _PLATFORMS[kind])
    except RuntimeError as error:
        raise BackendError(
            f"jax sees no device of the kind {kind!r}; use device='cpu', or install jax for it."
        ) from error
    if int(index or 0) >= len(found):
        raise BackendError(f"There is no device {name!r}: jax sees {len(found)} of that kind, counted from 0.")
    chosen = found[int(index or 0) :][:count]
    if len(chosen) < count:
        raise BackendError(
            f"{count} devices were asked for with device={name!r}, jax sees {len(found)} of that kind: "
            "lower tensor_parallel_size, or choose other devices."
        )
    return chosen


def describe_devices(devices: list[jax.Device]) -> str:
    """Kind and number: "cpu", "2 x tpu (TPU v5e)"."""
    kind = devices[0].platform
    named = kind if kind == "cpu" else f"{kind} ({devices[0].device_kind})"
    return named if len(devices) == 1 else f"{len(devices)} x {named}"


def explain_dtype(name: Dtype, device: jax.Device) -> str:
    """Why `choose_dtype` chose what it did."""
    if name != "auto":
        return "as asked for"
    return "the fastest in XLA on a CPU" if device.platform == "cpu" else "the checkpoint's"


def choose_dtype(name: Dtype, config: Mapping[str, Any], device: jax.Device) -> np.dtype[Any]:
    """The format of that name; "auto" is float32 on a CPU, where it is the fastest, and the checkpoint's elsewhere.

    Raises BackendError for a format that this backend does not compute in.
    """
    chosen: str = name
    if name == "auto":
        text = config.get("text_config") or config
        saved = config.get("dtype") or text.get("dtype") or "bfloat16"
        chosen = "float32" if device.platform == "cpu" else str(saved).removeprefix("torch.")
        chosen = "bfloat16" if chosen == "float16" else chosen
    formats: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(jnp.bfloat16)}
    if chosen not in formats:
        raise BackendError(f"The jax_tpu backend does not compute in {chosen}; choose dtype='bfloat16' or 'float32'.")
    return formats[chosen]
