"""The memory in which the programs that share a row's context leave what they found."""

from dataclasses import dataclass

import torch
from torch import Tensor

TOKENS_PER_TILE = 32  # fewest tokens of a split
_PROGRAMS_PER_MULTIPROCESSOR = 4
_MAX_SPLITS = 128  # those of a head are merged in registers


@dataclass(frozen=True, slots=True)
class SplitWorkspace:
    """Memory for what the splits find, made once for all layers and steps, and how many splits a step has."""

    buffer: Tensor  # float32 [words]
    num_multiprocessors: int
    max_model_len: int

    @classmethod
    def allocate(
        cls, num_heads: int, num_kv_heads: int, head_dim: int, max_model_len: int, device: torch.device
    ) -> "SplitWorkspace":
        """For any number of rows: more rows have fewer splits. `device` is a CUDA device."""
        count = torch.cuda.get_device_properties(device).multi_processor_count
        return cls.for_multiprocessors(count, num_heads, num_kv_heads, head_dim, max_model_len, device)

    @classmethod
    def for_multiprocessors(
        cls, count: int, num_heads: int, num_kv_heads: int, head_dim: int, max_model_len: int, device: torch.device
    ) -> "SplitWorkspace":
        # Doubling stops at twice the wanted programs at most; each leaves D sums and a log-sum-exp for G heads.
        programs = 2 * max(num_kv_heads, _PROGRAMS_PER_MULTIPROCESSOR * count)
        words = programs * (num_heads // num_kv_heads) * (head_dim + 1)
        return cls(torch.empty(words, dtype=torch.float32, device=device), count, max_model_len)

    def num_splits(self, num_rows: int, num_kv_heads: int) -> int:
        """A power of two: enough programs to keep every multiprocessor loading, none with less than a tile."""
        splits = 1
        wanted = _PROGRAMS_PER_MULTIPROCESSOR * self.num_multiprocessors
        most = min(_MAX_SPLITS, self.max_model_len // TOKENS_PER_TILE)
        while num_rows * num_kv_heads * splits < wanted and splits * 2 <= most:
            splits *= 2
        return splits
