"""Which tokens may be drawn, a bit a token.

Letters: C constrained samples, V vocabulary, W = ceil(V / 32) words.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class AllowedTokens:
    """For some of a step's samples what may be drawn, one token at least; the others are free."""

    samples: np.ndarray  # int32 [C], ascending
    bits: np.ndarray  # int32 [C, W], bit i of word w: token 32 * w + i may be drawn


def num_bit_words(vocab_size: int) -> int:
    """W."""
    return -(-vocab_size // 32)


def bar(bits: np.ndarray, token_ids: Iterable[int]) -> None:
    """Take tokens out of one sample's int32 [W], unless nothing else is left."""
    kept = bits.view(np.uint32).copy()  # [W]
    for token_id in token_ids:
        kept[token_id // 32] &= ~np.uint32(1 << token_id % 32)
    if kept.any():
        bits[:] = kept.view(np.int32)
