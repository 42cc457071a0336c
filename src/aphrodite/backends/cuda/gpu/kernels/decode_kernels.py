"""One program's share of a decode row: queries of a key/value head over a split of the context.

Letters: T tokens, R rows, B blocks a row, H query heads, K key/value heads, G = H / K, D head size, N cached
tokens of a tile.
"""

import triton
import triton.language as tl

from aphrodite.backends.cuda.gpu.kernels.paging import STEP_FIELDS, cache_offsets, split_range
from aphrodite.backends.cuda.gpu.kernels.scoring import bent


@triton.jit(do_not_specialize=["blocks"], do_not_specialize_on_alignment=STEP_FIELDS)
def attend_single_head(
    queries,  # [T, H, D]
    keys,  # [slots, K, D]
    values,
    block_table,  # [R, B]
    row_starts,  # [R + 1]
    kv_lengths,  # [R]
    output,  # [T, H, D]
    sums,  # [R, H, splits, D]
    log_sums,  # [R, H, splits]
    scale,
    blocks,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,
    softcap: tl.constexpr,
    splits: tl.constexpr,
    block_d: tl.constexpr,
    block_n: tl.constexpr,
):
    """Without grouped heads: products and sums, and a softmax of its own for each of the tile's places.

    A matrix product would be 15 parts padding. Each place n of the tile keeps its own maximum and sums over the tokens
    n, n + block_n, ...; they meet once at the end, so that the loop passes nothing between warps and only streams.
    """
    head, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    token = tl.load(row_starts + row)
    if tl.load(row_starts + row + 1) - token != 1:
        return
    first, last = split_range(tl.load(kv_lengths + row), split, window, splits, block_n)
    if first >= last:
        return
    dims = tl.arange(0, block_d)
    in_head = dims < head_dim
    at = (token.to(tl.int64) * kv_heads + head) * head_dim + dims
    query = tl.load(queries + at, mask=in_head, other=0.0).to(tl.float32) * scale  # [D]
    maximum = tl.full([block_n], float("-inf"), tl.float32)
    weight = tl.zeros([block_n], tl.float32)
    attended = tl.zeros([block_n, block_d], tl.float32)
    for start in tl.range(first, last, block_n, num_stages=3):  # two tiles are on their way while one is worked on
        positions = start + tl.arange(0, block_n)
        inside = positions < last
        at_token = cache_offsets(block_table, row, blocks, positions, last, kv_heads, head_dim, block_size)
        at_head = at_token[:, None] + head * head_dim + dims[None, :]
        mask = inside[:, None] & in_head[None, :]
        key = tl.load(keys + at_head, mask=mask, other=0.0)  # [N, D]
        value = tl.load(values + at_head, mask=mask, other=0.0)
        scores = bent(tl.sum(key.to(tl.float32) * query[None, :], axis=1), softcap)  # [N]
        scores = tl.where(inside, scores, float("-inf"))
        larger = tl.maximum(maximum, scores)
        # A place that has seen no token yet has no maximum: 0 in its stead keeps infinity from meeting infinity.
        finite = tl.where(larger == float("-inf"), 0.0, larger)
        kept = tl.exp2(maximum - finite)
        probabilities = tl.exp2(scores - finite)
        weight = weight * kept + probabilities
        attended = attended * kept[:, None] + probabilities[:, None] * value.to(tl.float32)
        maximum = larger
    overall = tl.max(maximum, axis=0)
    share = tl.exp2(maximum - overall)  # [N]
    total = tl.sum(weight * share, axis=0)
    result = tl.sum(attended * share[:, None], axis=0) / total  # [D]
    if splits == 1:
        tl.store(output + at, result.to(output.dtype.element_ty), mask=in_head)
    else:
        found = (row * kv_heads + head) * splits + split
        tl.store(sums + found * head_dim + dims, result, mask=in_head)
        tl.store(log_sums + found, overall + tl.log2(total))


@triton.jit(do_not_specialize=["blocks"], do_not_specialize_on_alignment=STEP_FIELDS)
def attend_group(
    queries,  # [T, H, D]
    keys,  # [slots, K, D]
    values,
    block_table,  # [R, B]
    row_starts,  # [R + 1]
    kv_lengths,  # [R]
    output,  # [T, H, D]
    sums,  # [R, H, splits, D]
    log_sums,  # [R, H, splits]
    scale,
    blocks,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,
    softcap: tl.constexpr,
    splits: tl.constexpr,
    block_d: tl.constexpr,
    block_g: tl.constexpr,
    block_n: tl.constexpr,
):
    """Grouped heads: the queries that share a key/value head are the rows of a matrix product, and read it once."""
    kv_head, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    token = tl.load(row_starts + row)
    if tl.load(row_starts + row + 1) - token != 1:
        return
    first, last = split_range(tl.load(kv_lengths + row), split, window, splits, block_n)
    if first >= last:
        return
    dims = tl.arange(0, block_d)
    in_head = dims < head_dim
    members = tl.arange(0, block_g)
    heads = kv_head * group + members
    in_group = members < group
    mask_query = in_group[:, None] & in_head[None, :]
    at = (token.to(tl.int64) * kv_heads * group + heads)[:, None] * head_dim + dims[None, :]
    query = tl.load(queries + at, mask=mask_query, other=0.0)  # [G, D]
    maximum = tl.full([block_g], float("-inf"), tl.float32)
    weight = tl.zeros([block_g], tl.float32)
    attended = tl.zeros([block_g, block_d], tl.float32)
    next_at_token = cache_offsets(
        block_table, row, blocks, first + tl.arange(0, block_n), last, kv_heads, head_dim, block_size
    )
    for start in tl.range(first, last, block_n):
        positions = start + tl.arange(0, block_n)
        inside = positions < last
        at_token = next_at_token
        next_at_token = cache_offsets(
            block_table, row, blocks, positions + block_n, last, kv_heads, head_dim, block_size
        )
        at_head = at_token[:, None] + kv_head * head_dim + dims[None, :]
        mask = inside[:, None] & in_head[None, :]
        key = tl.load(keys + at_head, mask=mask, other=0.0)  # [N, D]
        value = tl.load(values + at_head, mask=mask, other=0.0)
        scores = bent(tl.dot(query, tl.trans(key), input_precision="ieee") * scale, softcap)  # [G, N]
        scores = tl.where(inside[None, :], scores, float("-inf"))
        larger = tl.maximum(maximum, tl.max(scores, axis=1))  # every tile has a token
        kept = tl.exp2(maximum - larger)
        probabilities = tl.exp2(scores - larger[:, None])
        weight = weight * kept + tl.sum(probabilities, axis=1)
        attended = attended * kept[:, None]
        attended = tl.dot(probabilities.to(value.dtype), value, attended, input_precision="ieee")
        maximum = larger
    result = attended / weight[:, None]  # [G, D]
    if splits == 1:
        tl.store(output + at, result.to(output.dtype.element_ty), mask=mask_query)
    else:
        found = (row * kv_heads * group + heads) * splits + split
        tl.store(sums + found[:, None] * head_dim + dims[None, :], result, mask=mask_query)
        tl.store(log_sums + found, maximum + tl.log2(weight), mask=in_group)
