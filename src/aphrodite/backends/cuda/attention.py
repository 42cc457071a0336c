"""Attention over the paged KV cache in plain torch: the reference, and the way on the CPU.

Letters: T tokens, R rows, N leading rows of one token, C cached tokens, H query heads, K key/value heads, G = H / K,
D head size, L layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from aphrodite.domain.scheduling.flatten import FlatStep


class KvCache:
    """Keys and values of every layer, in blocks; block 0 takes the padding's."""

    def __init__(
        self,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (num_layers, num_blocks * block_size, num_kv_heads, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)  # [L, blocks * block_size, K, D]
        self.values = torch.empty(shape, dtype=dtype, device=device)

    def write(self, layer: int, kv_slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store the step's keys and values [T, K, D] at `kv_slots` [T]."""
        self.keys[layer].index_copy_(0, kv_slots, keys)
        self.values[layer].index_copy_(0, kv_slots, values)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A row of several tokens."""

    first: int  # its tokens in the step: [first, last)
    last: int
    start: int  # position of its first token
    cached_slots: Tensor  # int64 [C] where its keys and values lie, itself included


class AttentionBatch:
    """A step's rows, made ready once for all layers."""

    def __init__(self, flat: FlatStep, arrays: dict[str, Tensor], block_size: int) -> None:
        self.kv_slots = arrays["kv_slots"].long()  # [T]
        self._num_singles = flat.num_single_rows
        self._masks: dict[tuple[int, int | None], Tensor] = {}
        host = flat.arrays
        tables = (arrays["block_table"].long() * block_size)[:, :, None] + torch.arange(
            block_size, device=self.kv_slots.device
        )
        tables = tables.flatten(1)  # [R, B * block_size] cache position of each position in the row's sequence
        lengths = host["kv_lengths"]
        if self._num_singles:
            longest = int(lengths[: self._num_singles].max())
            self._single_lengths = arrays["kv_lengths"][: self._num_singles]
            inside = torch.arange(longest, device=self.kv_slots.device) < self._single_lengths[:, None]
            # Past its end a row looks at its own first token: a masked position still takes part as 0 x value, and
            # what another request left there may be NaN.
            singles = tables[: self._num_singles]
            self._single_slots = torch.where(inside, singles[:, :longest], singles[:, :1])  # [N, C]
        self._chunks = []
        row_starts = host["row_starts"].tolist()
        for row in range(self._num_singles, len(row_starts) - 1):
            first, last, length = row_starts[row], row_starts[row + 1], int(lengths[row])
            if last > first:
                self._chunks.append(_Chunk(first, last, length - (last - first), tables[row, :length]))

    def attend(self, cache: KvCache, layer: int, queries: Tensor, window: int | None) -> Tensor:
        """Causal attention of queries [T, H, D] over the cache, the step's own keys included. Returns [T, H, D]."""
        keys, values = cache.keys[layer], cache.values[layer]
        output = torch.empty_like(queries)
        if self._num_singles:
            output[: self._num_singles] = self._attend_singles(queries[: self._num_singles], keys, values, window)
        for index, chunk in enumerate(self._chunks):
            mask = self._chunk_mask(index, chunk, window)
            output[chunk.first : chunk.last] = scaled_dot_product_attention(
                queries[chunk.first : chunk.last].transpose(0, 1)[None],  # [1, H, T, D]
                keys[chunk.cached_slots].transpose(0, 1)[None],  # [1, K, C, D]
                values[chunk.cached_slots].transpose(0, 1)[None],
                attn_mask=mask,
                is_causal=mask is None,
                enable_gqa=True,
            )[0].transpose(0, 1)
        return output

    def _attend_singles(self, queries: Tensor, keys: Tensor, values: Tensor, window: int | None) -> Tensor:
        num_rows, num_heads, head_dim = queries.shape
        num_kv_heads = keys.shape[1]
        # The query heads of one key/value head stand in for its queries: no key is copied for a group.
        grouped = queries.view(num_rows, num_kv_heads, num_heads // num_kv_heads, head_dim)  # [N, K, G, D]
        attended = scaled_dot_product_attention(
            grouped,
            keys[self._single_slots].transpose(1, 2),  # [N, K, C, D]
            values[self._single_slots].transpose(1, 2),
            attn_mask=self._single_mask(window)[:, None, None],  # [N, 1, 1, C]
        )
        return attended.reshape(num_rows, num_heads, head_dim)

    def _single_mask(self, window: int | None) -> Tensor:
        """True where a row of one token may look, [N, C]."""
        if (-1, window) not in self._masks:
            positions = torch.arange(self._single_slots.shape[1], device=self.kv_slots.device)
            lengths = self._single_lengths[:, None]
            mask = positions < lengths
            if window is not None:
                mask &= positions >= lengths - window
            self._masks[(-1, window)] = mask
        return self._masks[(-1, window)]

    def _chunk_mask(self, index: int, chunk: _Chunk, window: int | None) -> Tensor | None:
        """True where a chunk's token may look, [T, C]; None where plain causal masking says it all."""
        length = chunk.cached_slots.shape[0]
        if window is not None and window >= length:
            window = None
        if chunk.start == 0 and window is None:
            return None
        if (index, window) not in self._masks:
            queries = torch.arange(chunk.start, length, device=self.kv_slots.device)[:, None]
            positions = torch.arange(length, device=self.kv_slots.device)
            mask = positions <= queries
            if window is not None:
                mask &= positions > queries - window
            self._masks[(index, window)] = mask
        return self._masks[(index, window)]
