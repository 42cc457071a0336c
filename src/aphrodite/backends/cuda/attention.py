"""Attention over the paged KV cache in plain torch: the reference, and the way where there are no kernels.

Letters: T tokens, R rows, N leading rows of one token, C cached tokens, H query heads, K key/value heads, G = H / K,
D head size, L layers, B blocks a row.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aphrodite.backends.cuda.cpu.product_attention import Softmax, TorchSoftmax, product_attention
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.domain.architectures.spec import AttentionSpec
from aphrodite.domain.scheduling.flatten import FlatStep
from aphrodite.domain.scheduling.step_arrays import StepArrays

_QUERIES_AT_ONCE = 128  # of a chunk: their scores stay in a core's cache, and what lies after them is not computed


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row of several tokens."""

    row: int
    first: int  # its tokens in the step: [first, last)
    last: int
    start: int  # position of its first token
    visible_until: np.ndarray | None  # int32 [tokens]; None: none sees others behind itself

    @property
    def length(self) -> int:
        """How many tokens its last one sees, itself included."""
        return self.start + self.last - self.first


def chunks_of(flat: FlatStep) -> list[Chunk]:
    """The step's rows of several tokens."""
    row_starts, lengths = flat.arrays.row_starts.tolist(), flat.arrays.kv_lengths.tolist()
    rows = range(flat.num_single_rows, len(lengths))
    bounds = ((row, row_starts[row], row_starts[row + 1]) for row in rows)

    def until(first: int, last: int) -> np.ndarray | None:
        found = flat.arrays.visible_until[first:last]
        return found if flat.sees_forward and found.any() else None

    return [
        Chunk(row, first, last, lengths[row] - (last - first), until(first, last))
        for row, first, last in bounds
        if last > first
    ]


class SingleRows:
    """A step's leading rows of one token, made ready once for all layers."""

    def __init__(self, flat: FlatStep, arrays: StepArrays[Tensor], cache: KvCache) -> None:
        self._cache = cache
        self._num_rows = flat.num_single_rows
        self._masks: dict[int | None, Tensor] = {}
        if not self._num_rows:
            return
        lengths, block_table = arrays.kv_lengths[: self._num_rows], arrays.block_table.long()[: self._num_rows]
        self._lengths = lengths[:, None]  # [N, 1]
        num_blocks = -(-int(flat.arrays.kv_lengths[: self._num_rows].max()) // cache.block_size)
        self._positions = torch.arange(num_blocks * cache.block_size, device=lengths.device)  # [C]
        is_inside = self._positions[:: cache.block_size] < self._lengths  # [N, B]
        # Past its end a row sees its own first block again: what others left in theirs may be NaN.
        blocks = torch.where(is_inside, block_table[:, :num_blocks], block_table[:, :1])
        self._head_blocks = cache.head_blocks(blocks)

    def attend(self, layer: int, queries: Tensor, attention: AttentionSpec, output: Tensor) -> None:
        """Attention of the step's queries [T, H, D], as far as they are of these rows, to output [T, H, D]."""
        if not self._num_rows:
            return
        singles = queries[: self._num_rows]
        keys, values = self._cache.gather(layer, self._head_blocks, self._num_rows)  # each [N * K, C, D]
        # The query heads of one key/value head stand in for its queries: no key is copied for a group.
        grouped = singles.reshape(len(keys), -1, singles.shape[-1])  # [N * K, G, D]
        scores = torch.bmm(grouped * attention.scale, keys.transpose(1, 2))
        if attention.softcap is not None:
            scores.div_(attention.softcap).tanh_().mul_(attention.softcap)
        scores += self._mask(attention.window, queries.dtype)
        output[: self._num_rows] = torch.bmm(scores.softmax(dim=-1), values).view(singles.shape)

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What to add to the scores, [N * K, 1, C]."""
        if window not in self._masks:
            is_seen = self._positions < self._lengths
            if window is not None:
                is_seen &= self._positions >= self._lengths - window
            is_hidden = ~is_seen.repeat_interleave(self._cache.num_kv_heads, 0)[:, None]
            mask = torch.zeros(is_hidden.shape, dtype=dtype, device=is_hidden.device)
            self._masks[window] = mask.masked_fill_(is_hidden, -torch.inf)
        return self._masks[window]


class ChunkRows:
    """A step's rows of several tokens, made ready once for all layers."""

    def __init__(self, flat: FlatStep, arrays: StepArrays[Tensor], cache: KvCache, softmax: Softmax) -> None:
        self._cache = cache
        self._softmax = softmax
        self._masks: dict[tuple[int, int | None], Tensor] = {}
        self._chunks = []
        for chunk in chunks_of(flat):
            table = arrays.block_table[chunk.row : chunk.row + 1, : -(-chunk.length // cache.block_size)]
            self._chunks.append((chunk, cache.head_blocks(table.long())))

    def attend(self, layer: int, queries: Tensor, attention: AttentionSpec, output: Tensor) -> None:
        """Attention of the step's queries [T, H, D], as far as they are of these rows, to output [T, H, D]."""
        window = attention.window
        for chunk, head_blocks in self._chunks:
            keys, values = self._cache.gather(layer, head_blocks, 1)  # each [K, C, D]
            if chunk.visible_until is not None:
                own, hidden = slice(chunk.first, chunk.last), self._hidden(chunk, window)
                keys, values = keys[:, : chunk.length], values[:, : chunk.length]
                output[own] = self._attend(queries[own], keys, values, attention, hidden)
                continue
            for first in range(chunk.first, chunk.last, _QUERIES_AT_ONCE):
                last = min(first + _QUERIES_AT_ONCE, chunk.last)
                start = chunk.start + first - chunk.first  # position of the first query
                stop = start + last - first
                earliest = 0 if window is None else max(0, start - window + 1)
                output[first:last] = self._attend(
                    queries[first:last], keys[:, earliest:stop], values[:, earliest:stop], attention
                )

    def _hidden(self, chunk: Chunk, window: int | None) -> Tensor:
        """Which keys a chunk's tokens do not see, bool [T, C], where some see others behind themselves."""
        key = (chunk.first, window)
        if key not in self._masks:
            assert chunk.visible_until is not None
            asking, seen = np.arange(chunk.start, chunk.length)[:, None], np.arange(chunk.length)
            is_hidden = seen >= np.maximum(asking + 1, chunk.visible_until[:, None])
            if window is not None:
                is_hidden |= seen <= asking - window
            self._masks[key] = torch.from_numpy(is_hidden).to(self._cache.keys.device)
        return self._masks[key]

    def _attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, attention: AttentionSpec, hidden: Tensor | None = None
    ) -> Tensor:
        """Queries [T, H, D] of a chunk over the keys and values [K, C, D] up to its last token's: [T, H, D]."""
        num_tokens, num_heads, head_dim = queries.shape
        num_kv_heads = len(keys)
        grouped = queries.view(num_tokens, num_kv_heads, num_heads // num_kv_heads, head_dim).permute(1, 2, 0, 3)
        flat = grouped.reshape(num_kv_heads, -1, head_dim)  # [K, G * T, D]
        attended = product_attention(flat, keys, values, self._softmax, attention, num_tokens, hidden)
        return attended.view(grouped.shape).permute(2, 0, 1, 3).reshape(queries.shape)


class AttentionBatch:
    """A step's rows in plain torch."""

    def __init__(self, flat: FlatStep, arrays: StepArrays[Tensor], cache: KvCache) -> None:
        self._cache = cache
        self._places = cache.places(arrays.kv_slots.long())
        self._singles = SingleRows(flat, arrays, cache)
        self._chunks = ChunkRows(flat, arrays, cache, TorchSoftmax())
        self.partial_blocks = torch.from_numpy(_begun_and_partial(flat.arrays, cache.block_size)).to(cache.keys.device)

    def store(self, layer: int, keys_and_values: Tensor) -> None:
        """Cache the step's keys, then values [T, 2K, D]."""
        self._cache.write(layer, self._places, keys_and_values)

    def attend(self, layer: int, queries: Tensor, attention: AttentionSpec) -> Tensor:
        """Causal attention of queries [T, H, D] over the cache, the step's own keys included. Returns [T, H, D]."""
        output = torch.empty_like(queries)
        self._singles.attend(layer, queries, attention, output)
        self._chunks.attend(layer, queries, attention, output)
        return output


def _begun_and_partial(host: StepArrays[np.ndarray], block_size: int) -> np.ndarray:
    """Blocks that the step begins and does not fill, int64 [n].

    They are cleared before: a masked position still takes part in attention as 0 x value, and what another request left
    there may be NaN.
    """
    lengths = host.kv_lengths.astype(np.int64)  # [R]
    starts = lengths - np.diff(host.row_starts)
    last_block = np.maximum(lengths - 1, 0) // block_size
    chosen = (lengths % block_size > 0) & (last_block * block_size >= starts)
    blocks: np.ndarray = host.block_table[np.flatnonzero(chosen), last_block[chosen]].astype(np.int64)
    return blocks
