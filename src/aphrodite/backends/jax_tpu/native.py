"""What XLA calls in C++ on a CPU: products of few rows, the way into the cache, and attention of rows of one token.

Letters: T tokens, H query heads, K key/value heads, D head size.
"""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from aphrodite.backends.jax_tpu.attention_plain import attend_longer
from aphrodite.backends.jax_tpu.products import multiply
from aphrodite.backends.jax_tpu.rotary import QkNorm, Rotary
from aphrodite.backends.native.library import load_library
from aphrodite.domain.architectures.spec import AttentionSpec

_FEW_ROWS = 16  # as in few_rows.h


@cache
def is_native(dtype: np.dtype) -> bool:
    """Whether attention and the way into the cache are there for the number format; from then on XLA knows them.

    `multiply_native` looks for its own kernel, which fewer processors have.
    """
    return _register(f"attend_singles_{dtype.name}") and _register(f"rotate_and_store_{dtype.name}")


@cache
def _register(name: str) -> bool:
    """Tell XLA of a function, if there is one on this machine."""
    library = load_library("xla", headers=Path(jax.ffi.include_dir()))
    if library is None or not hasattr(library, name):
        return False
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(library[name]), platform="cpu")
    return True


def multiply_native(x: Array, weight: Array) -> Array:
    """As `multiply`, of x [T, in]; on a processor with AVX512 few rows of float32 read the weight once, in order."""
    if x.shape[0] > _FEW_ROWS or x.dtype != np.float32 or not _register("multiply_float32"):
        return multiply(x, weight)
    return jax.ffi.ffi_call("multiply_float32", jax.ShapeDtypeStruct((x.shape[0], weight.shape[0]), x.dtype))(x, weight)


def rotate_and_store_native(
    qkv: Array, norm: QkNorm | None, rotary: Rotary, kv_slots: Array, cache: Array
) -> tuple[Array, Array]:
    """As `rotate_and_store`, for formats that `is_native`; a cache that is not read again is written in place."""
    num_tokens, num_heads, head_dim = qkv.shape
    queries = jax.ShapeDtypeStruct((num_tokens, num_heads - cache.shape[2], head_dim), qkv.dtype)
    call = jax.ffi.ffi_call(
        f"rotate_and_store_{qkv.dtype.name}",
        (queries, jax.ShapeDtypeStruct(cache.shape, cache.dtype)),
        input_output_aliases={5: 1},
    )
    norms = jnp.zeros((0, head_dim), qkv.dtype) if norm is None else jnp.stack((norm.queries, norm.keys))
    epsilon = np.float32(0 if norm is None else norm.epsilon)
    turned, written = call(qkv, norms, rotary.cos, rotary.sin, kv_slots, cache, epsilon=epsilon)
    return turned, written


def attend_native(
    queries: Array,
    cache: Array,
    row_starts: Array,
    kv_lengths: Array,
    block_table: Array,
    attention: AttentionSpec,
    visible_until: Array | None = None,
) -> Array:
    """As `attend_plain`, for formats that `is_native`."""
    call = jax.ffi.ffi_call(f"attend_singles_{queries.dtype.name}", jax.ShapeDtypeStruct(queries.shape, queries.dtype))
    singles = call(
        queries,
        cache,
        row_starts,
        kv_lengths,
        block_table,
        window=np.int64(attention.window or 0),
        scale=np.float32(attention.scale),
        softcap=np.float32(attention.softcap or 0),
    )
    return attend_longer(singles, queries, cache, row_starts, kv_lengths, block_table, attention, visible_until)
