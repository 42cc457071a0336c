"""Attention over the paged KV cache in plain jax.numpy: the reference, and the way on CPU and GPU.

Online softmax (arXiv 1805.02867) over the cache, some blocks at a time. How many rows, tiles and blocks there are is
read on the device, so that one program serves every step of its number of tokens, and nothing is computed for padding.

Letters: T tokens, R rows, N rows of one group, Q queries of one row, H query heads, K key/value heads, G = H / K,
D head size, B blocks a row, S positions of one iteration.
"""

import jax.numpy as jnp
from jax import Array, lax

from aphrodite.domain.architectures.spec import AttentionSpec

_GROUP = 8  # rows of one token that are run together
_TILE = 64  # tokens of a longer row that are run together
_SPAN = 64  # positions of the cache in one iteration
_LOWEST = -1e30  # stands for minus infinity, which would make NaN of a row that sees nothing yet


def attend_plain(
    queries: Array,
    cache: Array,
    row_starts: Array,
    kv_lengths: Array,
    block_table: Array,
    attention: AttentionSpec,
    visible_until: Array | None = None,
) -> Array:
    """Causal attention of queries [T, H, D] over a layer's cache [blocks, block_size, 2K, D], their own keys included.

    `row_starts` [R + 1], `kv_lengths` [R] and `block_table` [R, B] are those of `domain.scheduling.flatten`: rows of
    one token first, rows without tokens last. Keys lie at the even heads of the cache, values at the odd ones.
    With `visible_until` [T] the tokens of longer rows see what stands behind them as well, before that position.
    Returns [T, H, D].
    """
    inputs = (queries, cache, row_starts, kv_lengths, block_table, attention)
    return attend_longer(_attend_singles(*inputs), *inputs, visible_until)


def attend_longer(
    singles: Array,
    queries: Array,
    cache: Array,
    row_starts: Array,
    kv_lengths: Array,
    block_table: Array,
    attention: AttentionSpec,
    visible_until: Array | None,
) -> Array:
    """The attention of rows of one token, at their places in `singles` [T, H, D], with that of the longer rows."""
    num_tokens = queries.shape[0]
    if num_tokens == 1:
        return singles
    row_lengths = row_starts[1:] - row_starts[:-1]
    # A tile may reach past the end of its row: what it leaves there, the tiles that follow overwrite.
    tile = min(_TILE, num_tokens)
    padded, output = (jnp.pad(array, ((0, tile), (0, 0), (0, 0))) for array in (queries, singles))
    padded_until = None if visible_until is None else jnp.pad(visible_until, (0, tile))

    def run_row(row: Array, output: Array) -> Array:
        def run_tile(index: Array, output: Array) -> Array:
            first = row_starts[row] + index * tile
            positions = kv_lengths[row] - row_lengths[row] + index * tile + jnp.arange(tile)
            until = positions + 1
            if padded_until is not None:
                until = jnp.maximum(until, lax.dynamic_slice_in_dim(padded_until, first, tile))
            attended = _attend_rows(
                lax.dynamic_slice_in_dim(padded, first, tile)[None],
                positions[None],
                until[None],
                cache,
                kv_lengths[row][None],
                lax.dynamic_slice_in_dim(block_table, row, 1),
                attention,
            )
            return _put(output, attended[0], first)

        filled: Array = lax.fori_loop(0, -(-row_lengths[row] // tile), run_tile, output)
        return filled

    attended: Array = lax.fori_loop(jnp.sum(row_lengths == 1), jnp.sum(row_lengths > 0), run_row, output)
    return attended[:num_tokens]


def _attend_singles(
    queries: Array, cache: Array, row_starts: Array, kv_lengths: Array, block_table: Array, attention: AttentionSpec
) -> Array:
    """The attention of rows of one token; what stands in the places of others means nothing."""
    num_tokens, num_rows = queries.shape[0], kv_lengths.shape[0]
    is_single = row_starts[1:] - row_starts[:-1] == 1
    group = min(_GROUP, num_rows)
    padded = jnp.pad(queries, ((0, group), (0, 0), (0, 0)))
    lengths = jnp.pad(jnp.where(is_single, kv_lengths, 0), (0, -num_rows % group))
    tables = jnp.pad(block_table, ((0, -num_rows % group), (0, 0)))

    def run_group(index: Array, output: Array) -> Array:
        first = index * group
        own = lax.dynamic_slice_in_dim(lengths, first, group)
        attended = _attend_rows(
            lax.dynamic_slice_in_dim(padded, first, group)[:, None],
            (own - 1)[:, None],
            own[:, None],
            cache,
            own,
            lax.dynamic_slice_in_dim(tables, first, group),
            attention,
        )
        return _put(output, attended[:, 0], first)

    attended: Array = lax.fori_loop(0, -(-jnp.sum(is_single) // group), run_group, jnp.zeros_like(padded))
    return attended[:num_tokens]


def _put(array: Array, part: Array, first: Array) -> Array:
    """The array with `part` in the place of its entries from `first` on."""
    replaced: Array = lax.dynamic_update_slice_in_dim(array, part, first, 0)
    return replaced


def _attend_rows(
    queries: Array,
    positions: Array,
    until: Array,
    cache: Array,
    lengths: Array,
    tables: Array,
    attention: AttentionSpec,
) -> Array:
    """Queries [N, Q, H, D] at positions [N, Q], which see those before `until` [N, Q]; [N, Q, H, D].

    No row sees more than its first `lengths` [N] positions.
    """
    num_rows, num_queries, num_heads, head_dim = queries.shape
    block_size, num_kv_heads, window = cache.shape[1], cache.shape[2] // 2, attention.window
    grouped = queries.reshape(num_rows, num_queries, num_kv_heads, -1, head_dim).transpose(0, 2, 1, 3, 4)
    grouped = grouped.reshape(num_rows, num_kv_heads, -1, head_dim) * attention.scale  # [N, K, Q * G, D]
    # Each [N, Q * G, 1]
    asking, ends = (jnp.repeat(each, num_heads // num_kv_heads, axis=1)[:, :, None] for each in (positions, until))

    def run_span(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        highest, total, accumulated = carry
        # A CPU gathers bfloat16 by way of float32: bound to the index, that is not done to the whole cache beforehand.
        index, held = lax.optimization_barrier((index, cache))
        at = index * _SPAN + jnp.arange(_SPAN)
        # What lies past a row's end is somebody else's, and 0 x NaN would be NaN: its last position is read instead.
        owned = jnp.minimum(at, jnp.maximum(lengths - 1, 0)[:, None])  # [N, S]
        blocks = jnp.take_along_axis(tables, owned // block_size, axis=1, mode="promise_in_bounds")
        # One gather in the order of the cache, which keeps its shape: of another one XLA would make a copy.
        found = held.at[blocks, owned % block_size].get(mode="promise_in_bounds")
        found = lax.optimization_barrier(found).reshape(num_rows, _SPAN, num_kv_heads, 2, head_dim)
        keys, values = jnp.moveaxis(found, (3, 2), (0, 2))  # [N, K, S, D]
        scores = jnp.einsum("nkqd,nksd->nkqs", grouped, keys, preferred_element_type=jnp.float32)
        if attention.softcap is not None:
            scores = attention.softcap * jnp.tanh(scores / attention.softcap)
        mask = (at < ends) & (at < lengths[:, None, None])
        if window is not None:
            mask &= at > asking - window
        scores = jnp.where(mask[:, None], scores, _LOWEST)  # [N, K, Q * G, S]
        new_highest = jnp.maximum(highest, scores.max(axis=-1, keepdims=True))
        # Of a query that has seen nothing yet these are ones: `kept` makes them zero once it sees something.
        shares = jnp.exp(scores - new_highest)
        kept = jnp.exp(highest - new_highest)
        summed = jnp.einsum("nkqs,nksd->nkqd", shares.astype(values.dtype), values, preferred_element_type=jnp.float32)
        return new_highest, total * kept + shares.sum(axis=-1, keepdims=True), accumulated * kept + summed

    shape = (*grouped.shape[:3], 1)
    start = (
        jnp.full(shape, _LOWEST, jnp.float32),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros(grouped.shape, jnp.float32),
    )
    first = 0 if window is None else jnp.maximum(jnp.min(positions) - window + 1, 0) // _SPAN
    last = jnp.max(jnp.minimum(lengths, jnp.max(until, axis=1)))
    _, total, accumulated = lax.fori_loop(first, -(-last // _SPAN), run_span, start)
    attended: Array = (accumulated / jnp.maximum(total, 1e-30)).astype(queries.dtype)
    attended = attended.reshape(num_rows, num_kv_heads, num_queries, -1, head_dim).transpose(0, 2, 1, 3, 4)
    return attended.reshape(queries.shape)
