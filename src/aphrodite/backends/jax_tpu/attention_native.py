"""Attention on a CPU: rows of one token by a C++ kernel, which copies nothing of what it reads; else plain code."""

from functools import cache
from pathlib import Path

import jax
import numpy as np
from jax import Array

from aphrodite.backends.jax_tpu.attention_plain import attend_longer
from aphrodite.backends.native.library import load_library


@cache
def is_native(dtype: np.dtype) -> bool:
    """Whether there is such a kernel for the number format on this machine; from then on XLA knows it."""
    if dtype.name not in ("float32", "bfloat16"):
        return False
    library = load_library("xla", headers=Path(jax.ffi.include_dir()))
    if library is None:
        return False
    name = f"attend_singles_{dtype.name}"
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(library[name]), platform="cpu")
    return True


def attend_native(
    queries: Array, cache: Array, row_starts: Array, kv_lengths: Array, block_table: Array, window: int | None
) -> Array:
    """As `attend_plain`, for formats that `is_native`."""
    call = jax.ffi.ffi_call(f"attend_singles_{queries.dtype.name}", jax.ShapeDtypeStruct(queries.shape, queries.dtype))
    singles = call(queries, cache, row_starts, kv_lengths, block_table, window=np.int64(window or 0))
    return attend_longer(singles, queries, cache, row_starts, kv_lengths, block_table, window)
