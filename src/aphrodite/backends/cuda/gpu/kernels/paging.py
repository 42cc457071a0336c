"""Where a row's context lies in the paged cache, and how it is shared out; called from kernels.

Letters: R rows, B blocks a row.
"""

import triton
import triton.language as tl

STEP_FIELDS = [
    "kv_slots",
    "row_starts",
    "kv_lengths",
    "visible_until",
    "block_table",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "uniform",
]
"""Arguments that lie in a step's buffer, each at the end of the one before it: no program may count on where."""


@triton.jit
def split_range(length, split, window: tl.constexpr, splits: tl.constexpr, block_n: tl.constexpr):
    """Cached positions [first, last) of a split; none where first >= last."""
    start = 0
    if window > 0:
        start = tl.maximum(length - window, 0)
    tokens = tl.cdiv(tl.cdiv(length - start, splits), block_n) * block_n
    first = start + split * tokens
    return first, tl.minimum(first + tokens, length)


@triton.jit
def cache_offsets(
    block_table,
    row,
    blocks,
    positions,
    end,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
):
    """Where the keys and values of a row's positions begin, int64; a cache may have more than 2**31 elements."""
    block = tl.load(block_table + row * blocks + positions // block_size, mask=positions < end, other=0).to(tl.int64)
    return (block * block_size + positions % block_size) * (kv_heads * head_dim)
