"""Attention over the paged KV cache in plain torch: the reference, and the way on the CPU.

Letters: T tokens, R rows, N leading rows of one token, C cached tokens, H query heads, K key/value heads, G = H / K,
D head size, L layers, B blocks a row.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aphrodite.domain.scheduling.flatten import FlatStep

_QUERIES_AT_ONCE = 128  # of a chunk: their scores stay in a core's cache, and what lies after them is not computed


class KvCache:
    """Keys and values of every layer, in blocks; block 0 takes the padding's.

    The kernels lay a block out token by token (`keys`, `values`); plain torch lays the same memory out head by head, so
    that one gather brings a row's blocks together as its products read them.
    """

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
        self.block_size = block_size
        self.num_kv_heads = num_kv_heads
        shape = (num_layers, 2, num_blocks, num_kv_heads, block_size, head_dim)
        self._numbers = torch.empty(shape, dtype=dtype, device=device)  # [L, 2, blocks, K, block_size, D]
        by_token = self._numbers.view(num_layers, 2, num_blocks * block_size, num_kv_heads, head_dim)
        self.keys = by_token[:, 0]  # [L, blocks * block_size, K, D]
        self.values = by_token[:, 1]

    def clear(self, block_ids: Tensor) -> None:
        """Make blocks [n] zero, in all layers."""
        if len(block_ids):
            self._numbers.index_fill_(2, block_ids, 0.0)

    def head_blocks(self, block_ids: Tensor) -> Tensor:
        """Where the keys, then the values of blocks [N, B] lie, for `gather`: [2 * N * K * B]."""
        _, _, num_blocks, num_heads, _, _ = self._numbers.shape
        heads = torch.arange(num_heads, device=block_ids.device)[:, None]  # [K, 1]
        keys = block_ids[:, None] * num_heads + heads  # [N, K, B]
        return torch.cat((keys.flatten(), keys.flatten() + num_blocks * num_heads))

    def gather(self, layer: int, head_blocks: Tensor, num_rows: int) -> Tensor:
        """Keys and values of rows whose blocks `head_blocks` tells, [2, N * K, C, D]."""
        _, _, _, num_heads, block_size, head_dim = self._numbers.shape
        blocks = self._numbers[layer].view(-1, block_size * head_dim).index_select(0, head_blocks)
        return blocks.view(2, num_rows * num_heads, -1, head_dim)

    def places(self, kv_slots: Tensor) -> Tensor:
        """Where the keys and values of slots [T] lie, for `write`: [T * 2 * K]."""
        _, _, num_blocks, num_heads, block_size, _ = self._numbers.shape
        heads = torch.arange(2 * num_heads, device=kv_slots.device)
        firsts = (heads // num_heads * num_blocks * num_heads + heads % num_heads) * block_size  # [2 * K] in block 0
        tokens = kv_slots // block_size * (num_heads * block_size) + kv_slots % block_size  # [T] of the first head
        return (tokens[:, None] + firsts).flatten()

    def write(self, layer: int, places: Tensor, keys_and_values: Tensor) -> None:
        """Store the step's keys, then values [T, 2K, D]."""
        head_dim = self._numbers.shape[-1]
        self._numbers[layer].view(-1, head_dim).index_copy_(0, places, keys_and_values.reshape(-1, head_dim))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A row of several tokens."""

    first: int  # its tokens in the step: [first, last)
    last: int
    start: int  # position of its first token
    head_blocks: Tensor  # where its keys and values lie, its own included


class AttentionBatch:
    """A step's rows, made ready once for all layers."""

    def __init__(self, flat: FlatStep, arrays: dict[str, Tensor], cache: KvCache) -> None:
        self._cache = cache
        kv_slots = arrays["kv_slots"].long()  # [T]
        self._places = cache.places(kv_slots)
        self._device = kv_slots.device
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}
        self._num_singles = flat.num_single_rows
        block_table = arrays["block_table"].long()  # [R, B]
        host = flat.arrays
        lengths, row_starts, block_size = host["kv_lengths"], host["row_starts"], cache.block_size
        self.partial_blocks = torch.from_numpy(_begun_and_partial(host, block_size)).to(self._device)
        if self._num_singles:
            num_blocks = -(-int(lengths[: self._num_singles].max()) // block_size)
            self._single_lengths = arrays["kv_lengths"][: self._num_singles]  # [N]
            inside = torch.arange(num_blocks, device=self._device) * block_size < self._single_lengths[:, None]
            singles = block_table[: self._num_singles]
            # Past its end a row sees its own first block again: what others left in theirs may be NaN.
            self._single_blocks = cache.head_blocks(torch.where(inside, singles[:, :num_blocks], singles[:, :1]))
            self._num_positions = num_blocks * block_size
        self._chunks = []
        for row in range(self._num_singles, len(row_starts) - 1):
            first, last, length = int(row_starts[row]), int(row_starts[row + 1]), int(lengths[row])
            if last > first:
                blocks = cache.head_blocks(block_table[row : row + 1, : -(-length // block_size)])
                self._chunks.append(_Chunk(first, last, length - (last - first), blocks))

    def store(self, layer: int, keys_and_values: Tensor) -> None:
        """Cache the step's keys, then values [T, 2K, D]."""
        self._cache.write(layer, self._places, keys_and_values)

    def attend(self, layer: int, queries: Tensor, window: int | None) -> Tensor:
        """Causal attention of queries [T, H, D] over the cache, the step's own keys included. Returns [T, H, D]."""
        output = torch.empty_like(queries)
        if self._num_singles:
            output[: self._num_singles] = self._attend_singles(layer, queries[: self._num_singles], window)
        for chunk in self._chunks:
            keys, values = self._cache.gather(layer, chunk.head_blocks, 1)  # each [K, C, D]
            for first in range(chunk.first, chunk.last, _QUERIES_AT_ONCE):
                last = min(first + _QUERIES_AT_ONCE, chunk.last)
                start = chunk.start + first - chunk.first  # position of the first query
                stop = start + last - first
                earliest = 0 if window is None else max(0, start - window + 1)
                output[first:last] = self._attend_queries(
                    queries[first:last], keys[:, earliest:stop], values[:, earliest:stop], window
                )
        return output

    def _attend_singles(self, layer: int, queries: Tensor, window: int | None) -> Tensor:
        keys, values = self._cache.gather(layer, self._single_blocks, len(queries))  # each [N * K, C, D]
        # The query heads of one key/value head stand in for its queries: no key is copied for a group.
        grouped = queries.reshape(len(keys), -1, queries.shape[-1])  # [N * K, G, D]
        return _attend(grouped, keys, values, self._single_mask(window, queries.dtype)).view(queries.shape)

    def _attend_queries(self, queries: Tensor, keys: Tensor, values: Tensor, window: int | None) -> Tensor:
        """Queries [T, H, D] of a chunk over the keys and values [K, C, D] up to its last token's: [T, H, D]."""
        num_tokens, num_heads, head_dim = queries.shape
        num_kv_heads, num_keys, _ = keys.shape
        group = num_heads // num_kv_heads
        grouped = queries.view(num_tokens, num_kv_heads, group, head_dim).permute(1, 2, 0, 3)  # [K, G, T, D]
        mask = self._chunk_mask(num_tokens, num_keys, group, window, queries.dtype)
        attended = _attend(grouped.reshape(num_kv_heads, -1, head_dim), keys, values, mask)
        return attended.view(grouped.shape).permute(2, 0, 1, 3).reshape(queries.shape)

    def _single_mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What to add to the scores of rows of one token, [N * K, 1, C]."""
        key = (1, 0, window)
        if key not in self._masks:
            positions = torch.arange(self._num_positions, device=self._device)
            lengths = self._single_lengths[:, None]  # [N, 1]
            is_seen = positions < lengths
            if window is not None:
                is_seen &= positions >= lengths - window
            self._masks[key] = _added(is_seen.repeat_interleave(self._cache.num_kv_heads, 0)[:, None], dtype)
        return self._masks[key]

    def _chunk_mask(self, num_tokens: int, num_keys: int, group: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """What to add to the scores of a chunk's last keys, [G * T, last keys]; all see those before."""
        if window is None or window >= num_keys:
            num_keys, window = num_tokens, None
        key = (num_tokens, num_keys, window)
        if key not in self._masks:
            queries = torch.arange(num_keys - num_tokens, num_keys, device=self._device)[:, None]  # [T, 1]
            positions = torch.arange(num_keys, device=self._device)
            is_seen = positions <= queries
            if window is not None:
                is_seen &= positions > queries - window
            self._masks[key] = _added(is_seen.repeat(group, 1), dtype)
        return self._masks[key]


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Queries [P, T, D] over keys and values [P, C, D], the mask added to the last scores: [P, T, D].

    Two batched products beat torch's fused attention on a CPU for so few queries, in bfloat16 by a factor of two.
    """
    scores = torch.bmm(queries * queries.shape[-1] ** -0.5, keys.transpose(1, 2))  # [P, T, C]
    scores[..., -mask.shape[-1] :].add_(mask)
    return torch.bmm(scores.softmax(dim=-1), values)


def _added(is_seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a token is seen, else minus infinity."""
    return torch.zeros(is_seen.shape, dtype=dtype, device=is_seen.device).masked_fill_(~is_seen, -torch.inf)


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
