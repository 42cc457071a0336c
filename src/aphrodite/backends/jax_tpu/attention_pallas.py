"""Attention over the paged KV cache as a Pallas kernel for TPUs: rows of one token and longer ones in one call.

One grid step takes one row. It goes through the row's tokens a tile at a time, and for each tile through the cache a
span of blocks at a time: while one span is computed on, the next is on its way from HBM. Softmax is kept online
(arXiv 1805.02867).

    queries in HBM   | row r           | row r + 1  |
                     | tile | tile | ti|le          |    a tile that reaches past its row leaves there what the next
                                                         row, which runs later, overwrites

Letters: T tokens, R rows, Q tokens of a tile, S positions of a span, H query heads, K key/value heads, D head size.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from aphrodite.domain.architectures.spec import AttentionSpec

_LANES = 128
_SINGLE_TILE = 8  # tokens; a row of one token fills one of them
_CHUNK_TILE = 64
_SPAN = 128  # positions, at least a block
_LOWEST = -1e30
_VMEM_BYTES = 64 << 20


def attend_pallas(
    queries: Array,
    cache: Array,
    row_starts: Array,
    kv_lengths: Array,
    block_table: Array,
    attention: AttentionSpec,
    visible_until: Array | None = None,
) -> Array:
    """As `attend_plain`; the cache's head size is a multiple of 128, the queries' may be smaller."""
    num_tokens, num_heads, head_dim = queries.shape
    block_size, combined, width = cache.shape[1:]
    per_span = max(1, _SPAN // block_size)
    span = per_span * block_size
    tile = min(_CHUNK_TILE, -(-num_tokens // _SINGLE_TILE) * _SINGLE_TILE)
    padded = jnp.pad(queries * attention.scale, ((0, tile), (0, 0), (0, width - head_dim)))
    tables = jnp.pad(block_table, ((0, 0), (0, -block_table.shape[1] % per_span)))
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    statistics = pltpu.VMEM((num_heads, tile, _LANES), jnp.float32)
    causal = jnp.zeros((1,), jnp.int32)  # is not read
    until = causal if visible_until is None else jnp.pad(visible_until, (0, tile))
    output: Array = pl.pallas_call(
        partial(_run_row, attention=attention, tile=tile, sees_forward=visible_until is not None),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=4,
            grid=(kv_lengths.shape[0],),
            in_specs=[anywhere, anywhere],
            out_specs=anywhere,
            scratch_shapes=[
                pltpu.VMEM((tile, num_heads, width), queries.dtype),
                pltpu.VMEM((tile, num_heads, width), jnp.float32),
                pltpu.VMEM((2, per_span, block_size, combined, width), cache.dtype),
                pltpu.VMEM((span, combined, width), jnp.float32),
                pltpu.VMEM((num_heads, tile, width), jnp.float32),
                statistics,
                statistics,
                pltpu.SemaphoreType.DMA((2,)),
                pltpu.SemaphoreType.DMA,
            ],
        ),
        out_shape=jax.ShapeDtypeStruct(padded.shape, queries.dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary",), vmem_limit_bytes=_VMEM_BYTES),
        name="attend_pallas",
    )(row_starts, kv_lengths, tables, until, padded, cache)
    return output[:num_tokens, :, :head_dim]


def _run_row(
    row_starts: Any, kv_lengths: Any, tables: Any, until: Any, queries: Any, cache: Any, output: Any, *scratch: Any,
    attention: AttentionSpec, tile: int, sees_forward: bool,
) -> None:  # fmt: skip
    row = pl.program_id(0)
    first, length = row_starts[row], kv_lengths[row]
    num_tokens = row_starts[row + 1] - first
    start = length - num_tokens  # position of the row's first token

    def run(size: int, index: Array) -> None:
        _run_tile(
            row, first + index * size, start + index * size, length, tables, until, queries, cache, output,
            *scratch, attention=attention, size=size, sees_forward=sees_forward and size == tile,
        )  # fmt: skip

    @pl.when(num_tokens == 1)
    def _single() -> None:
        run(_SINGLE_TILE, jnp.int32(0))

    @pl.when(num_tokens > 1)
    def _chunk() -> None:
        lax.fori_loop(0, pl.cdiv(num_tokens, tile), lambda index, _: run(tile, index), None)


def _run_tile(
    row: Array, token: Array, position: Array, length: Array, tables: Any, until: Any, queries: Any, cache: Any,
    output: Any, narrow: Any, wide: Any, spans: Any, span_wide: Any, sums: Any, highest: Any, totals: Any,
    span_arrived: Any, tile_moved: Any, *, attention: AttentionSpec, size: int,
    sees_forward: bool,
) -> None:  # fmt: skip
    """Attend from `size` tokens, the first of them `token` of the step and at `position` of its row."""
    _, per_span, block_size, combined, _ = spans.shape
    span, num_heads = per_span * block_size, wide.shape[1]
    group = num_heads // (combined // 2)
    here, window = pl.ds(0, size), attention.window

    def copies(index: Array) -> list[Any]:
        return [
            pltpu.make_async_copy(
                cache.at[tables[row, index * per_span + i]], spans.at[index % 2, i], span_arrived.at[index % 2]
            )
            for i in range(per_span)
        ]

    first_span = 0 if window is None else jnp.maximum(position - window + 1, 0) // span
    ends = position + lax.broadcasted_iota(jnp.int32, (size, span), 0) + 1  # of what each token sees
    last = position + size
    if sees_forward:
        places = lax.broadcasted_iota(jnp.int32, (size, span), 0)

        def look(place: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
            end = until[token + place]
            return jnp.where(places == place, jnp.maximum(found[0], end), found[0]), jnp.maximum(found[1], end)

        ends, last = lax.fori_loop(0, size, look, (ends, last))
    last_span = pl.cdiv(jnp.minimum(length, last), span)
    for copy in copies(jnp.asarray(first_span, jnp.int32)):
        copy.start()
    arrival = pltpu.make_async_copy(queries.at[pl.ds(token, size)], narrow.at[here], tile_moved)
    arrival.start()
    arrival.wait()
    # Single heads can be read out of 32-bit numbers only.
    wide[here] = narrow[here].astype(jnp.float32)
    sums[:, here] = jnp.zeros((num_heads, size, sums.shape[2]), jnp.float32)
    totals[:, here] = jnp.zeros((num_heads, size, _LANES), jnp.float32)
    highest[:, here] = jnp.full((num_heads, size, _LANES), _LOWEST, jnp.float32)

    def run_span(index: Array, _: None) -> None:
        @pl.when(index + 1 < last_span)
        def _fetch_next() -> None:
            for copy in copies(index + 1):
                copy.start()

        for copy in copies(index):
            copy.wait()
        span_wide[...] = spans[index % 2].astype(jnp.float32).reshape(span_wide.shape)
        seen = position + lax.broadcasted_iota(jnp.int32, (size, span), 0)
        at = index * span + lax.broadcasted_iota(jnp.int32, (size, span), 1)
        mask = (at < ends) & (at < length)
        if window is not None:
            mask &= at > seen - window
        owned = index * span + lax.broadcasted_iota(jnp.int32, (span, span_wide.shape[2]), 0) < length
        for kv_head in range(combined // 2):
            keys = span_wide[:, 2 * kv_head].astype(cache.dtype)  # [S, D]
            # What lies past a row's end is somebody else's: 0 x NaN would be NaN.
            values = jnp.where(owned, span_wide[:, 2 * kv_head + 1], 0.0).astype(cache.dtype)
            for head in range(kv_head * group, (kv_head + 1) * group):
                scores = lax.dot_general(
                    wide[here, head].astype(cache.dtype), keys, (((1,), (1,)), ((), ())),
                    preferred_element_type=jnp.float32,
                )  # fmt: skip
                if attention.softcap is not None:
                    scores = attention.softcap * jnp.tanh(scores / attention.softcap)
                scores = jnp.where(mask, scores, _LOWEST)  # [Q, S]
                before = highest[head, here]  # [Q, lanes], the same in each
                after = jnp.maximum(before, scores.max(axis=1, keepdims=True))
                shares = jnp.where(mask, jnp.exp(scores - after[:, :1]), 0.0)
                kept = jnp.exp(before - after)
                highest[head, here] = after
                totals[head, here] = totals[head, here] * kept + shares.sum(axis=1, keepdims=True)
                added = jnp.dot(shares.astype(cache.dtype), values, preferred_element_type=jnp.float32)
                sums[head, here] = sums[head, here] * kept[:, :1] + added

    lax.fori_loop(first_span, last_span, run_span, None)
    for head in range(num_heads):
        wide[here, head] = sums[head, here] / jnp.maximum(totals[head, here][:, :1], 1e-30)
    narrow[here] = wide[here].astype(narrow.dtype)
    departure = pltpu.make_async_copy(narrow.at[here], output.at[pl.ds(token, size)], tile_moved)
    departure.start()
    departure.wait()
