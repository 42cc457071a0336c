"""The paged KV cache, and the choice of how attention reads it.

Letters: T tokens, R rows, H query heads, K key/value heads, D head size, B blocks a row.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from aphrodite.backends.jax_tpu.attention_plain import attend_plain


class AttentionInputs(NamedTuple):
    """A step's rows, as `domain.scheduling.flatten` lays them out."""

    kv_slots: Array  # int32 [T]
    row_starts: Array  # int32 [R + 1]
    kv_lengths: Array  # int32 [R]
    block_table: Array  # int32 [R, B]


Attend = Callable[[Array, Array, Array, Array, Array, int | None], Array]
"""Queries [T, H, D], a layer's cache, row starts, KV lengths, block table, window in tokens; returns [T, H, D]."""


def choose_attention() -> Attend:
    """The way to attend."""
    return attend_plain


def cache_shape(num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int) -> tuple[int, int, int, int]:
    """A layer's cache [blocks, block_size, 2K, D]: head k's keys at 2k, its values at 2k + 1; block 0 is padding's."""
    return (num_blocks, block_size, 2 * num_kv_heads, head_dim)


def write(cache: Array, kv_slots: Array, keys: Array, values: Array) -> Array:
    """The cache with keys and values [T, K, D] stored at `kv_slots` [T]."""
    blocks, block_size, heads, head_dim = cache.shape
    combined = jnp.stack((keys, values), axis=2).reshape(-1, heads, head_dim)
    rows = cache.reshape(blocks * block_size, heads, head_dim)
    return rows.at[kv_slots].set(combined, mode="promise_in_bounds").reshape(cache.shape)
