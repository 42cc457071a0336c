"""What a device can do: how fast it moves bytes and multiplies matrices, measured where the benchmark runs."""

import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aphrodite.bench.limit import DeviceRates

_SECONDS_EACH = 0.3


def measure_rates(backend: str, device: str, dtype: str) -> tuple[str, DeviceRates]:
    """The device's name, and the best of several repetitions, in numbers of the run's dtype; takes a second or two.

    The numbers are random, as a model's are: equal ones take a GPU less power, and so its limit lets it multiply them
    faster.

    Bytes are those of a copy, read and written, or of a matrix-vector product, whichever is faster: some processors
    read memory before they write it, which slows copies.
    """
    return _with_jax(device, dtype) if backend == "jax_tpu" else _with_torch(device, dtype)


def better(one: DeviceRates, other: DeviceRates) -> DeviceRates:
    """The higher of two measurements: what disturbs one can only lower it."""
    return DeviceRates(max(one.bytes_per_s, other.bytes_per_s), max(one.operations_per_s, other.operations_per_s))


def _with_torch(device: str, dtype_name: str) -> tuple[str, DeviceRates]:
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    on_gpu = device.startswith("cuda")
    dtype = getattr(torch, dtype_name)
    rows, columns, side = (65536, 8192, 8192) if on_gpu else (8192, 4096, 1024)
    with torch.inference_mode():
        matrix = torch.randn(rows, columns, dtype=dtype, device=device)  # larger than any cache
        vector = torch.randn(columns, dtype=dtype, device=device)
        square = torch.randn(side, side, dtype=dtype, device=device)
        target = torch.empty_like(matrix)

        def wait() -> None:
            if on_gpu:
                torch.cuda.synchronize(device)

        num_bytes = matrix.numel() * dtype.itemsize
        copied = 2 * num_bytes / _best_s(lambda: target.copy_(matrix), wait)
        read = num_bytes / _best_s(lambda: torch.mv(matrix, vector), wait)
        operations = 2 * side**3 / _best_s(lambda: torch.mm(square, square), wait)
    name = torch.cuda.get_device_name(device) if on_gpu else _cpu_name()
    return name, DeviceRates(max(copied, read), operations)


def _with_jax(device: str, dtype_name: str) -> tuple[str, DeviceRates]:
    import jax

    kind, _, index = device.partition(":")
    chosen = jax.devices(None if kind == "auto" else kind)[int(index or 0)]
    with jax.default_device(chosen):
        return _with_jax_device(chosen, dtype_name)


def _with_jax_device(device: Any, dtype_name: str) -> tuple[str, DeviceRates]:
    import jax
    import jax.numpy as jnp

    on_cpu = device.platform == "cpu"
    dtype = jnp.dtype(dtype_name)
    rows, columns, side = (8192, 4096, 1024) if on_cpu else (65536, 8192, 8192)
    key = jax.random.key(0)
    matrix = jax.random.normal(key, (rows, columns), dtype)  # larger than any cache
    vector, square = jax.random.normal(key, (columns,), dtype), jax.random.normal(key, (side, side), dtype)
    negate: Callable[[Any], Any] = jax.jit(jnp.negative)  # a copy, which the compiler may not leave out
    precision = "highest" if dtype_name == "float32" else "default"  # as the backend asks for
    product: Callable[[Any, Any], Any] = jax.jit(partial(jnp.dot, precision=precision))
    num_bytes = matrix.size * dtype.itemsize
    copied = 2 * num_bytes / _best_s(lambda: negate(matrix).block_until_ready())
    read = num_bytes / _best_s(lambda: product(matrix, vector).block_until_ready())
    operations = 2 * side**3 / _best_s(lambda: product(square, square).block_until_ready())
    name = _cpu_name() if on_cpu else str(device.device_kind)
    return name, DeviceRates(max(copied, read), operations)


def _best_s(work: Callable[[], object], wait: Callable[[], None] = lambda: None) -> float:
    """The shortest of as many repetitions as fit."""
    work()
    wait()
    best_s, started_s = float("inf"), time.perf_counter()
    while time.perf_counter() - started_s < _SECONDS_EACH:
        begun_s = time.perf_counter()
        work()
        wait()
        best_s = min(best_s, time.perf_counter() - begun_s)
    return best_s


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
