"""Attention over the paged KV cache in plain torch: the reference, and the way on the CPU.

Letters: T tokens, R rows, N leading rows of one token, C cached tokens, H query heads, K key/value heads, G = H / K,
D head size, L layers.
"""

from dataclasses import dataclass

import numpy as np
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
        self._block_size = block_size
        shape = (num_layers, num_blocks * block_size, num_kv_heads, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)  # [L, blocks * block_size, K, D]
        self.values = torch.empty(shape, dtype=dtype, device=device)

    def clear(self, block_ids: Tensor) -> None:
        """Make blocks [n] zero, in all layers."""
        for numbers in (self.keys, self.values):
            num_layers, _, *head_shape = numbers.shape
            numbers.view(num_layers, -1, self._block_size, *head_shape).index_fill_(1, block_ids, 0.0)

    def gather(self, layer: int, block_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of each row's blocks [N, B], each [N, B * block_size, K, D]."""
        return self._gather(self.keys[layer], block_ids), self._gather(self.values[layer], block_ids)

    def _gather(self, numbers: Tensor, block_ids: Tensor) -> Tensor:
        _, *head_shape = numbers.shape
        blocks = numbers.view(-1, self._block_size, *head_shape).index_select(0, block_ids.flatten())
        return blocks.view(len(block_ids), -1, *head_shape)

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
        device = self.kv_slots.device
        self._num_singles = flat.num_single_rows
        self._masks: dict[tuple[int, int | None], Tensor] = {}
        block_table = arrays["block_table"].long()  # [R, B]
        host = flat.arrays
        lengths, row_starts = host["kv_lengths"], host["row_starts"]
        self.partial_blocks = torch.from_numpy(_begun_and_partial(host, block_size)).to(device)
        if self._num_singles:
            num_blocks = -(-int(lengths[: self._num_singles].max()) // block_size)
            self._single_lengths = arrays["kv_lengths"][: self._num_singles]  # [N]
            inside = torch.arange(num_blocks, device=device) * block_size < self._single_lengths[:, None]
            singles = block_table[: self._num_singles]
            # Past its end a row sees its own first block again: what others left in theirs may be NaN.
            self._single_blocks = torch.where(inside, singles[:, :num_blocks], singles[:, :1])  # [N, blocks]
            self._num_positions = num_blocks * block_size
        offsets = torch.arange(block_size, device=device)
        self._chunks = []
        for row in range(self._num_singles, len(row_starts) - 1):
            first, last, length = int(row_starts[row]), int(row_starts[row + 1]), int(lengths[row])
            if last > first:
                slots = (block_table[row][:, None] * block_size + offsets).flatten()[:length]
                self._chunks.append(_Chunk(first, last, length - (last - first), slots))

    def attend(self, cache: KvCache, layer: int, queries: Tensor, window: int | None) -> Tensor:
        """Causal attention of queries [T, H, D] over the cache, the step's own keys included. Returns [T, H, D]."""
        keys, values = cache.keys[layer], cache.values[layer]
        output = torch.empty_like(queries)
        if self._num_singles:
            output[: self._num_singles] = self._attend_singles(
                queries[: self._num_singles], *cache.gather(layer, self._single_blocks), window
            )
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
        num_kv_heads = keys.shape[2]
        # The query heads of one key/value head stand in for its queries: no key is copied for a group.
        grouped = queries.view(num_rows, num_kv_heads, num_heads // num_kv_heads, head_dim)  # [N, K, G, D]
        attended = scaled_dot_product_attention(
            grouped,
            keys.transpose(1, 2),  # [N, K, C, D]
            values.transpose(1, 2),
            attn_mask=self._single_mask(window)[:, None, None],  # [N, 1, 1, C]
        )
        return attended.reshape(num_rows, num_heads, head_dim)

    def _single_mask(self, window: int | None) -> Tensor:
        """True where a row of one token may look, [N, C]."""
        if (-1, window) not in self._masks:
            positions = torch.arange(self._num_positions, device=self.kv_slots.device)
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


def _begun_and_partial(host: dict[str, np.ndarray], block_size: int) -> np.ndarray:
    """Blocks that the step begins and does not fill, int64 [n].

    They are cleared before: a masked position still takes part in attention as 0 x value, and what another request left
    there may be NaN.
    """
    lengths = host["kv_lengths"].astype(np.int64)  # [R]
    starts = lengths - np.diff(host["row_starts"])
    last_block = np.maximum(lengths - 1, 0) // block_size
    chosen = (lengths % block_size > 0) & (last_block * block_size >= starts)
    blocks: np.ndarray = host["block_table"][np.flatnonzero(chosen), last_block[chosen]].astype(np.int64)
    return blocks
