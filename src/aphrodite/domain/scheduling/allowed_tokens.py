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


NOTHING_CONSTRAINED = AllowedTokens(np.empty(0, np.int32), np.empty((0, 0), np.int32))


def num_bit_words(vocab_size: int) -> int:
    """W."""
    return -(-vocab_size // 32)


def bar(bits: np.ndarray, token_ids: Iterable[int]) -> np.ndarray:
    """Samples' int32 [n, W] without these tokens; where nothing else would be left, as they were."""
    barred = np.zeros(bits.shape[1], dtype=np.uint32)
    for token_id in token_ids:
        barred[token_id // 32] |= np.uint32(1 << token_id % 32)
    kept = bits & ~barred.view(np.int32)
    return np.where(kept.any(axis=1, keepdims=True), kept, bits)
