"""A step's queries and keys turned to their positions (rotary, arXiv 2104.09864), and its keys and values cached.

Letters: T tokens, H query heads, K key/value heads, D head size.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class Rotary(NamedTuple):
    """What turns each token's heads."""

    cos: Array  # [T, D / 2]
    sin: Array
    query_scale: Array | None = None  # [T]; None: 1


class QkNorm(NamedTuple):
    """Weights of the RMS norms over each head's queries and keys (Qwen3)."""

    queries: Array  # [D]
    keys: Array  # [D]
    epsilon: float


RotateAndStore = Callable[[Array, QkNorm | None, Rotary, Array, Array], tuple[Array, Array]]
"""Products qkv [T, H + 2K, D], norms, angles, KV slots int32 [T], a layer's cache; queries [T, H, D] and the cache."""


def rotate_and_store(
    qkv: Array, norm: QkNorm | None, rotary: Rotary, kv_slots: Array, cache: Array
) -> tuple[Array, Array]:
    """Norm, where there is one, and turn queries and keys, and cache keys and values in plain jax.numpy."""
    kv_heads = cache.shape[2] // 2
    queries, keys, values = jnp.split(qkv, (qkv.shape[1] - 2 * kv_heads, qkv.shape[1] - kv_heads), axis=1)
    if norm is not None:
        queries, keys = rms_norm(queries, norm.queries, norm.epsilon), rms_norm(keys, norm.keys, norm.epsilon)
    return _rotate(queries, rotary), _store(cache, kv_slots, _rotate(keys, rotary), values)


def rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    """x over the root mean square of its last dimension, times a weight (arXiv 1910.07467)."""
    wide = x.astype(jnp.float32)
    scale = lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * scale * weight.astype(jnp.float32)).astype(x.dtype)


def _rotate(x: Array, rotary: Rotary) -> Array:
    """The heads of x [T, heads, D]: dimension i pairs with i + D / 2, as Hugging Face lays weights out."""
    first, second = jnp.split(x, 2, axis=-1)
    cos, sin = rotary.cos[:, None], rotary.sin[:, None]
    return jnp.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)


def _store(cache: Array, kv_slots: Array, keys: Array, values: Array) -> Array:
    """The cache with keys and values [T, K, D] at `kv_slots` [T]."""
    blocks, block_size, heads, width = cache.shape
    combined = jnp.stack((keys, values), axis=2).reshape(-1, heads, keys.shape[2])
    combined = jnp.pad(combined, ((0, 0), (0, 0), (0, width - keys.shape[2])))
    rows = cache.reshape(blocks * block_size, heads, width)
    return rows.at[kv_slots].set(combined, mode="promise_in_bounds").reshape(cache.shape)
