"""The paged KV cache on a torch device.

Letters: T tokens, N rows, C cached tokens, K key/value heads, D head size, L layers, B blocks a row.
"""

import torch
from torch import Tensor


class KvCache:
    """Keys and values of every layer, in blocks; block 0 takes the padding's.

    The Triton kernels lay a block out token by token (`keys`, `values`); the C++ kernels and plain torch lay the same
    memory out head by head, so that what a head's products read lies together.
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
        self.numbers = torch.empty(shape, dtype=dtype, device=device)  # [L, 2, blocks, K, block_size, D]
        by_token = self.numbers.view(num_layers, 2, num_blocks * block_size, num_kv_heads, head_dim)
        self.keys = by_token[:, 0]  # [L, blocks * block_size, K, D]
        self.values = by_token[:, 1]

    def clear(self, block_ids: Tensor) -> None:
        """Make blocks [n] zero, in all layers."""
        if len(block_ids):
            self.numbers.index_fill_(2, block_ids, 0.0)

    def head_blocks(self, block_ids: Tensor) -> Tensor:
        """Where the keys, then the values of blocks [N, B] lie, for `gather`: [2 * N * K * B]."""
        _, _, num_blocks, num_heads, _, _ = self.numbers.shape
        heads = torch.arange(num_heads, device=block_ids.device)[:, None]  # [K, 1]
        keys = block_ids[:, None] * num_heads + heads  # [N, K, B]
        return torch.cat((keys.flatten(), keys.flatten() + num_blocks * num_heads))

    def gather(self, layer: int, head_blocks: Tensor, num_rows: int) -> Tensor:
        """Keys and values of rows whose blocks `head_blocks` tells, [2, N * K, C, D]."""
        _, _, _, num_heads, block_size, head_dim = self.numbers.shape
        blocks = self.numbers[layer].view(-1, block_size * head_dim).index_select(0, head_blocks)
        return blocks.view(2, num_rows * num_heads, -1, head_dim)

    def places(self, kv_slots: Tensor) -> Tensor:
        """Where the keys and values of slots [T] lie, for `write`: [T * 2 * K]."""
        _, _, num_blocks, num_heads, block_size, _ = self.numbers.shape
        heads = torch.arange(2 * num_heads, device=kv_slots.device)
        firsts = (heads // num_heads * num_blocks * num_heads + heads % num_heads) * block_size  # [2 * K] in block 0
        tokens = kv_slots // block_size * (num_heads * block_size) + kv_slots % block_size  # [T] of the first head
        return (tokens[:, None] + firsts).flatten()

    def write(self, layer: int, places: Tensor, keys_and_values: Tensor) -> None:
        """Store the step's keys, then values [T, 2K, D]."""
        head_dim = self.numbers.shape[-1]
        self.numbers[layer].view(-1, head_dim).index_copy_(0, places, keys_and_values.reshape(-1, head_dim))
