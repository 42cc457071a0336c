"""Attention of rows of one token over the paged KV cache, split over the length of the context.

Flash-decoding (Dao et al. 2023, https://pytorch.org/blog/flash-decoding/): several programs share the context of a row
and a key/value head, and a second kernel merges what they found by its log-sum-exp. The grid comes from capacities and
the splits from the lengths on the device, so that a CUDA graph serves every length.

Letters: T tokens, R rows, B blocks a row, H query heads, K key/value heads, G = H / K, D head size.
"""

import triton
import triton.language as tl
from torch import Tensor

from aphrodite.backends.cuda.gpu.kernels.decode_kernels import attend_group, attend_single_head
from aphrodite.backends.cuda.gpu.kernels.paging import STEP_FIELDS, split_range
from aphrodite.backends.cuda.gpu.kernels.scoring import scoring
from aphrodite.backends.cuda.gpu.kernels.split_workspace import TOKENS_PER_TILE, SplitWorkspace
from aphrodite.domain.architectures.spec import AttentionSpec


def decode_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    block_table: Tensor,
    row_starts: Tensor,
    kv_lengths: Tensor,
    block_size: int,
    attention: AttentionSpec,
    workspace: SplitWorkspace,
    output: Tensor,
) -> None:
    """Write the attention of every row that has one token; other rows' output stays as it is.

    Arguments as in `paged_attention`.
    """
    rows, blocks = block_table.shape
    _, heads, head_dim = queries.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    splits = workspace.num_splits(rows, kv_heads)
    sums = workspace.buffer  # [R, H, splits, D]
    log_sums = workspace.buffer[rows * heads * splits * head_dim :]  # [R, H, splits]
    block_d = max(16, triton.next_power_of_2(head_dim))
    scale, softcap = scoring(attention)
    step = (queries, keys, values, block_table, row_starts, kv_lengths, output, sums, log_sums)
    sizes = {
        "scale": scale,
        "blocks": blocks,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "block_size": block_size,
        "window": attention.window or 0,
        "softcap": softcap,
        "splits": splits,
        "block_d": block_d,
        "block_n": TOKENS_PER_TILE,
    }
    grid = (kv_heads, splits, rows)
    if group == 1:
        # A thread holds as many bytes of the tile whatever the head size and the number format. Without maxnreg ptxas
        # keeps to 80 registers, and spills for it; 128 leave room for the four programs a multiprocessor is to run.
        num_warps = max(4, block_d * queries.element_size() // 64)
        attend_single_head[grid](*step, **sizes, num_warps=num_warps, maxnreg=128)
    else:
        block_g = max(16, triton.next_power_of_2(group))
        num_warps = 8 if queries.element_size() == 4 else 4
        attend_group[grid](*step, **sizes, group=group, block_g=block_g, num_warps=num_warps, num_stages=3)
    if splits > 1:
        _merge_splits[(rows, heads)](
            row_starts,
            kv_lengths,
            output,
            sums,
            log_sums,
            heads=heads,
            head_dim=head_dim,
            window=attention.window or 0,
            splits=splits,
            block_d=block_d,
            block_n=TOKENS_PER_TILE,
            num_warps=min(16, max(2, splits * block_d // 1024)),
        )


@triton.jit(do_not_specialize_on_alignment=STEP_FIELDS)
def _merge_splits(
    row_starts,  # [R + 1]
    kv_lengths,  # [R]
    output,  # [T, H, D]
    sums,  # [R, H, splits, D]
    log_sums,  # [R, H, splits]
    heads: tl.constexpr,
    head_dim: tl.constexpr,
    window: tl.constexpr,
    splits: tl.constexpr,
    block_d: tl.constexpr,
    block_n: tl.constexpr,
):
    row, head = tl.program_id(0), tl.program_id(1)
    token = tl.load(row_starts + row)
    if tl.load(row_starts + row + 1) - token != 1:
        return
    split = tl.arange(0, splits)
    first, last = split_range(tl.load(kv_lengths + row), split, window, splits, block_n)
    used = first < last  # a split without tokens has written nothing
    dims = tl.arange(0, block_d)
    in_head = dims < head_dim
    found = (row * heads + head) * splits + split
    log_sum = tl.load(log_sums + found, mask=used, other=float("-inf"))  # [splits]
    share = tl.exp2(log_sum - tl.max(log_sum, axis=0))
    mask = used[:, None] & in_head[None, :]
    parts = tl.load(sums + found[:, None] * head_dim + dims[None, :], mask=mask, other=0.0)  # [splits, D]
    result = tl.sum(parts * share[:, None], axis=0) / tl.sum(share, axis=0)
    at = (token.to(tl.int64) * heads + head) * head_dim + dims
    tl.store(output + at, result.to(output.dtype.element_ty), mask=in_head)
