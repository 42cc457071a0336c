"""Attention in which each query sees a range of the keys: patches of many pictures side by side.

Letters: P patches, H heads, D head size, Q queries of a chunk, C keys of a chunk.
"""

import jax.numpy as jnp
from jax import Array, lax

_LOWEST = -1e30

CHUNK = 256
"""Patches at once, of queries and of keys: scores [H, 256, 256] stay in a TPU's fast memory."""


def attend_within(queries: Array, keys: Array, values: Array, ranges: Array) -> Array:
    """Attention [P, H, D] of queries, keys and values [P, H, D], P a multiple of CHUNK or less than that.

    `ranges` int32 [P, 2]: the first key that a query sees, and the one behind the last. They ascend, so that a chunk of
    queries need read no more keys than lie between its first and its last. Of an empty range nothing comes: zeros.
    """
    num_patches, num_heads, head_dim = queries.shape
    size = min(CHUNK, num_patches)
    scale = head_dim**-0.5

    def attend_chunk(chunk: tuple[Array, Array]) -> Array:
        mine, seen = chunk  # [Q, H, D], [Q, 2]

        def run(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            highest, total, accumulated = carry  # [H, Q, 1], [H, Q, 1], [H, Q, D]
            some_keys = lax.dynamic_slice_in_dim(keys, index * size, size)
            some_values = lax.dynamic_slice_in_dim(values, index * size, size)
            scores = jnp.einsum("qhd,chd->hqc", mine, some_keys, preferred_element_type=jnp.float32) * scale
            at = index * size + jnp.arange(size)
            mask = (at >= seen[:, :1]) & (at < seen[:, 1:])  # [Q, C]
            scores = jnp.where(mask, scores, _LOWEST)
            new_highest = jnp.maximum(highest, scores.max(axis=-1, keepdims=True))
            shares = jnp.where(mask, jnp.exp(scores - new_highest), 0.0)
            kept = jnp.exp(highest - new_highest)
            summed = jnp.einsum(
                "hqc,chd->hqd", shares.astype(values.dtype), some_values, preferred_element_type=jnp.float32
            )
            return new_highest, total * kept + shares.sum(axis=-1, keepdims=True), accumulated * kept + summed

        start = (
            jnp.full((num_heads, size, 1), _LOWEST, jnp.float32),
            jnp.zeros((num_heads, size, 1), jnp.float32),
            jnp.zeros((num_heads, size, head_dim), jnp.float32),
        )
        first, stop = seen[:, 0].min() // size, -(-seen[:, 1].max() // size)
        _, total, accumulated = lax.fori_loop(first, stop, run, start)
        attended: Array = (accumulated / jnp.maximum(total, 1e-30)).swapaxes(0, 1)
        return attended.astype(queries.dtype)

    chunks = (queries.reshape(-1, size, num_heads, head_dim), ranges.reshape(-1, size, 2))
    attended: Array = lax.map(attend_chunk, chunks)
    return attended.reshape(num_patches, num_heads, head_dim)
