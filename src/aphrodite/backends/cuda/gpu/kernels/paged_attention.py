"""Causal attention over the paged KV cache, for a step's rows of one token and of several.

Letters: T tokens, R rows, B blocks a row, H query heads, K key/value heads, D head size.
"""

from torch import Tensor

from aphrodite.backends.cuda.gpu.kernels.chunk_attention import chunk_attention
from aphrodite.backends.cuda.gpu.kernels.decode_attention import decode_attention
from aphrodite.backends.cuda.gpu.kernels.split_workspace import SplitWorkspace
from aphrodite.domain.architectures.spec import AttentionSpec


def paged_attention(
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
    *,
    has_single_rows: bool,
    has_chunks: bool,
    visible_until: Tensor | None = None,
) -> None:
    """Write the causal attention of queries [T, H, D] over one layer's cache to `output` [T, H, D].

    `keys` and `values` are [blocks * block_size, K, D], the step's own among them; `block_table` int32 [R, B],
    `row_starts` int32 [R + 1] and `kv_lengths` int32 [R] are those of `flatten`. A token sees the last positions of
    the window up to its own, or all. Rows without tokens, and padded tokens, leave `output` as it is. Lengths are read
    on the device, so that a CUDA graph serves all of them; the host says only which kinds of rows there may be. With
    `visible_until` int32 [T] the tokens of rows of several see what stands behind them as well, before that position.
    """
    if has_single_rows:
        decode_attention(
            queries, keys, values, block_table, row_starts, kv_lengths, block_size, attention, workspace, output
        )
    if has_chunks:
        chunk_attention(
            queries, keys, values, block_table, row_starts, kv_lengths, block_size, attention, output, visible_until
        )
