"""The paged KV cache, and the kernel that comes with jax to read it.

Letters: T tokens, R rows, H query heads, K key/value heads, D head size, B blocks a row.
"""

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention

from aphrodite.backends.jax_tpu.attention_plain import attend_plain
from aphrodite.domain.architectures.spec import AttentionSpec
from aphrodite.domain.errors import CapacityError

_log = logging.getLogger(__name__)

_TPU_WIDTH = 128  # the lanes of a TPU's registers: head sizes are padded to a multiple
_PACKAGED_SPAN = 128  # positions that jax's kernel computes on at once
_PACKAGED_TILE = 32  # tokens of the same
_VMEM_BYTES = 64 << 20
_MAX_BLOCK_SIZE = 512  # of which two, and one in float32, are in a TPU's fast memory at a time
_TABLE_BYTES = 512 << 10  # of the 1 MiB of scalar memory that a TPU has, where both kernels want the block table


class AttentionInputs(NamedTuple):
    """A step's rows, as `domain.scheduling.flatten` lays them out."""

    kv_slots: Array  # int32 [T]
    row_starts: Array  # int32 [R + 1]
    kv_lengths: Array  # int32 [R]
    block_table: Array  # int32 [R, B]
    visible_until: Array | None  # int32 [T]; None for a model of which no token sees others behind itself


class Attend(Protocol):
    """Attention over a layer's cache."""

    def __call__(
        self,
        queries: Array,
        cache: Array,
        row_starts: Array,
        kv_lengths: Array,
        block_table: Array,
        attention: AttentionSpec,
        visible_until: Array | None = None,
    ) -> Array:
        """As `attend_plain`."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What decides which kernel can run, of one device's part."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: np.dtype[Any]
    sees_forward: bool = False  # whether tokens see others behind themselves


def cache_width(head_dim: int, platform: str) -> int:
    """Numbers that a head's keys take in the cache; the rest of them, on a TPU, is zeros."""
    return -(-head_dim // _TPU_WIDTH) * _TPU_WIDTH if platform == "tpu" else head_dim


def cache_shape(num_blocks: int, block_size: int, num_kv_heads: int, width: int) -> tuple[int, int, int, int]:
    """A layer's cache [blocks, block_size, 2K, D]: head k's keys at 2k, its values at 2k + 1; block 0 is padding's."""
    return (num_blocks, block_size, 2 * num_kv_heads, width)


def choose_block_size(wanted: int, num_rows: int, max_model_len: int, platform: str) -> int:
    """Tokens of a block: as many as wanted, on a TPU a multiple where the block table would not fit otherwise.

    Raises CapacityError where even the largest blocks make too many.
    """
    block_size = wanted

    def table_bytes() -> int:
        return 4 * num_rows * -(-max_model_len // block_size)

    if platform != "tpu":
        return wanted
    while table_bytes() > _TABLE_BYTES and block_size < _MAX_BLOCK_SIZE:
        block_size *= 2
    if table_bytes() > _TABLE_BYTES:
        raise CapacityError(
            f"The blocks of {num_rows} sequences of {max_model_len} tokens, {block_size} tokens each, make a table of "
            f"{table_bytes():,} bytes, and a TPU has room for {_TABLE_BYTES:,}; lower max_num_seqs or max_model_len."
        )
    if block_size > wanted:
        _log.info("Blocks of the KV cache have %d tokens, for the block table to fit the TPU.", block_size)
    return block_size


def packaged_takes(shape: AttentionShape) -> bool:
    """Whether jax's kernel runs these heads: causal, one register's width, and rows of heads that fill its tiles."""
    packing = 4 // shape.dtype.itemsize
    tiles, rest = divmod(2 * shape.num_kv_heads, packing)
    return (
        not shape.sees_forward and shape.head_dim <= _TPU_WIDTH and rest == 0 and (tiles in (1, 2, 4) or tiles % 8 == 0)
    )


def attend_packaged(
    queries: Array,
    cache: Array,
    row_starts: Array,
    kv_lengths: Array,
    block_table: Array,
    attention: AttentionSpec,
    visible_until: Array | None = None,  # noqa: ARG001  see `packaged_takes`
) -> Array:
    """As `attend_plain`, by the kernel that comes with jax."""
    num_tokens, _, head_dim = queries.shape
    padded = jnp.pad(queries, ((0, 0), (0, 0), (0, cache.shape[3] - head_dim)))
    attended: Array = ragged_paged_attention(
        padded,
        cache,
        kv_lengths,
        block_table,
        row_starts,
        jnp.sum(row_starts[1:] > row_starts[:-1], dtype=jnp.int32)[None],
        sm_scale=attention.scale,
        sliding_window=attention.window,
        soft_cap=attention.softcap,
        num_kv_pages_per_block=min(block_table.shape[1], max(1, _PACKAGED_SPAN // cache.shape[1])),
        num_queries_per_block=min(num_tokens, _PACKAGED_TILE),
        vmem_limit_bytes=_VMEM_BYTES,
    )
    return attended[:, :, :head_dim]


def agrees_with_plain(attend: Attend, shape: AttentionShape, device: jax.Device) -> bool:
    """Run a small step of short and long rows on the device, and hold it against plain code.

    What does not run at all does not agree; why, the log says.
    """
    rng = np.random.default_rng(0)
    size, width = shape.block_size, cache_width(shape.head_dim, "tpu")
    rows = [(1, 3 * size - 1), (1, 1), (20, 2 * size + 20), (9, 9)]  # (tokens of the step, tokens in all)
    num_blocks = max(-(-length // size) for _, length in rows)
    starts = np.cumsum([0, *(count for count, _ in rows)]).astype(np.int32)
    table = 1 + rng.permutation(len(rows) * num_blocks).reshape(len(rows), num_blocks).astype(np.int32)
    cache = rng.normal(size=cache_shape(table.size + 1, size, shape.num_kv_heads, width))
    cache[..., shape.head_dim :] = 0
    arrays = jax.device_put(
        (
            rng.normal(size=(32, shape.num_heads, shape.head_dim)).astype(shape.dtype),
            cache.astype(shape.dtype),
            starts,
            np.array([length for _, length in rows], np.int32),
            table,
        ),
        device,
    )

    def run(way: Attend, attention: AttentionSpec) -> np.ndarray:
        return np.asarray(jax.jit(way, static_argnums=5)(*arrays, attention), np.float32)[: starts[-1]]

    for window in (None, size + 3):
        attention = AttentionSpec(shape.head_dim**-0.5, window)
        expected = run(_plain_over_padded, attention)
        try:
            found = run(attend, attention)
        except Exception as error:  # noqa: BLE001  whatever a compiler takes offence at, there is another kernel
            reason = str(error).partition("\n")[0]
            _log.warning("The attention kernel of jax does not run here, another takes its place: %s", reason)
            return False
        if not np.abs(found - expected).max() < 0.05:  # outputs are about 1, bfloat16 has 8 bits
            _log.warning("The attention kernel of jax computes wrongly here, another takes its place.")
            return False
    return True


def _plain_over_padded(
    queries: Array,
    cache: Array,
    row_starts: Array,
    kv_lengths: Array,
    block_table: Array,
    attention: AttentionSpec,
    visible_until: Array | None = None,
) -> Array:
    held = cache[..., : queries.shape[2]]
    return attend_plain(queries, held, row_starts, kv_lengths, block_table, attention, visible_until)
