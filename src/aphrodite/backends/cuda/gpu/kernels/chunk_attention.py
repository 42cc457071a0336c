"""Causal attention of rows of several tokens over the paged KV cache.

FlashAttention-2 (arXiv 2307.08691) over blocks: a program takes a tile of a row's tokens with the query heads that
share a key/value head, and walks over the row's cache. The grid comes from the numbers of tokens and rows; a program
finds its row on the device.

Letters: T tokens, R rows, B blocks a row, H query heads, K key/value heads, G = H / K, D head size, M queries of a
tile (tokens x G), N cached tokens of a tile.
"""

import triton
import triton.language as tl
from torch import Tensor

from aphrodite.backends.cuda.gpu.kernels.paging import STEP_FIELDS, cache_offsets
from aphrodite.backends.cuda.gpu.kernels.scoring import bent, scoring
from aphrodite.domain.architectures.spec import AttentionSpec


def chunk_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    block_table: Tensor,
    row_starts: Tensor,
    kv_lengths: Tensor,
    block_size: int,
    attention: AttentionSpec,
    output: Tensor,
    visible_until: Tensor | None = None,
) -> None:
    """Write the attention of every row that has more than one token; other rows' output stays as it is.

    Arguments as in `paged_attention`.
    """
    rows, blocks = block_table.shape
    tokens, heads, head_dim = queries.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    # Tiles as large as registers and shared memory allow.
    is_wide = head_dim * queries.element_size() > 256
    block_m = max(32 if is_wide else 128, triton.next_power_of_2(group))
    block_n = 16 if queries.element_size() == 4 else 32 if is_wide else 64
    block_q = block_m // group
    scale, softcap = scoring(attention)
    _attend_chunks[(kv_heads, tokens // block_q + rows)](
        queries,
        keys,
        values,
        block_table,
        row_starts,
        kv_lengths,
        kv_lengths if visible_until is None else visible_until,
        output,
        scale,
        rows,
        blocks,
        kv_heads=kv_heads,
        group=group,
        head_dim=head_dim,
        block_size=block_size,
        window=attention.window or 0,
        softcap=softcap,
        sees_forward=visible_until is not None,
        block_d=max(16, triton.next_power_of_2(head_dim)),
        block_r=triton.next_power_of_2(rows + 1),
        block_m=block_m,
        block_n=block_n,
        block_q=block_q,
        num_warps=4 if is_wide else 8,
        num_stages=3,
    )


@triton.jit(do_not_specialize=["rows", "blocks"], do_not_specialize_on_alignment=STEP_FIELDS)
def _attend_chunks(
    queries,  # [T, H, D]
    keys,  # [slots, K, D]
    values,
    block_table,  # [R, B]
    row_starts,  # [R + 1]
    kv_lengths,  # [R]
    visible_until,  # [T]
    output,  # [T, H, D]
    scale,
    rows,
    blocks,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,
    softcap: tl.constexpr,
    sees_forward: tl.constexpr,
    block_d: tl.constexpr,
    block_r: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_q: tl.constexpr,
):
    # Row r has the tiles from row_starts[r] // block_q + r on: at least as many as it needs, and never another's.
    # The last tiles come first: a row's last tile sees the most, and the lightest fill the end.
    kv_head, tile = tl.program_id(0), tl.num_programs(1) - 1 - tl.program_id(1)
    every = tl.arange(0, block_r)
    starts = tl.load(row_starts + every, mask=every < rows, other=0)
    row = tl.sum(((starts // block_q + every <= tile) & (every < rows)).to(tl.int32), axis=0) - 1
    row_start = tl.load(row_starts + row)
    row_tokens = tl.load(row_starts + row + 1) - row_start
    offset = (tile - row_start // block_q - row) * block_q  # of the tile's first token in its row
    if (row_tokens <= 1) | (offset >= row_tokens):
        return

    length = tl.load(kv_lengths + row)
    members = tl.arange(0, block_m)
    tokens = offset + members // group
    is_query = (tokens < row_tokens) & (members < block_q * group)
    positions = length - row_tokens + tokens  # [M] in the sequence
    dims = tl.arange(0, block_d)
    in_head = dims < head_dim
    head = kv_head * group + members % group
    at = (((row_start + tokens).to(tl.int64) * kv_heads * group) + head)[:, None] * head_dim + dims[None, :]
    mask_query = is_query[:, None] & in_head[None, :]
    query = tl.load(queries + at, mask=mask_query, other=0.0)  # [M, D]

    first = 0
    if window > 0:
        first = tl.maximum(length - row_tokens + offset - window + 1, 0)
    last = tl.minimum(length - row_tokens + offset + block_q, length)
    until = positions + 1
    if sees_forward:
        until = tl.maximum(until, tl.load(visible_until + row_start + tokens, mask=is_query, other=0))
        last = tl.maximum(last, tl.max(tl.where(is_query, until, 0), axis=0))
    maximum = tl.full([block_m], float("-inf"), tl.float32)
    weight = tl.zeros([block_m], tl.float32)
    attended = tl.zeros([block_m, block_d], tl.float32)
    # A tile's blocks are looked up while the tile before it is loaded: loads whose addresses are loaded themselves are
    # not sent ahead.
    next_at_token = cache_offsets(
        block_table, row, blocks, first + tl.arange(0, block_n), last, kv_heads, head_dim, block_size
    )
    for start in tl.range(first, last, block_n):
        cached = start + tl.arange(0, block_n)
        inside = cached < last
        at_token = next_at_token
        next_at_token = cache_offsets(block_table, row, blocks, cached + block_n, last, kv_heads, head_dim, block_size)
        at_head = at_token[:, None] + kv_head * head_dim + dims[None, :]
        mask = inside[:, None] & in_head[None, :]
        key = tl.load(keys + at_head, mask=mask, other=0.0)  # [N, D]
        value = tl.load(values + at_head, mask=mask, other=0.0)
        scores = bent(tl.dot(query, tl.trans(key), input_precision="ieee") * scale, softcap)  # [M, N]
        visible = (cached[None, :] < until[:, None]) & inside[None, :]
        if window > 0:
            visible &= cached[None, :] > positions[:, None] - window
        scores = tl.where(visible, scores, float("-inf"))
        larger = tl.maximum(maximum, tl.max(scores, axis=1))
        # A query that has seen nothing yet has no maximum: 0 in its stead keeps infinity from meeting infinity.
        finite = tl.where(larger == float("-inf"), 0.0, larger)
        kept = tl.exp2(maximum - finite)
        probabilities = tl.exp2(scores - finite[:, None])
        weight = weight * kept + tl.sum(probabilities, axis=1)
        attended = attended * kept[:, None]
        attended = tl.dot(probabilities.to(value.dtype), value, attended, input_precision="ieee")
        maximum = larger
    # Padding of the tile has no weight, and is not stored.
    result = attended / tl.where(is_query, weight, 1.0)[:, None]
    tl.store(output + at, result.to(output.dtype.element_ty), mask=mask_query)
