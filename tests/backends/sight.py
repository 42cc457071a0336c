"""Tokens that see others behind themselves."""

import numpy as np


def visible_until(start: int, num_tokens: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Of a row's tokens from position `start` on, int32 [size]: two spans of the first `num_tokens` see themselves."""
    until = np.zeros(size, np.int32)
    bounds = np.sort(generator.integers(0, num_tokens + 1, 4)).tolist() if num_tokens > 1 else []
    for first, last in zip(bounds[::2], bounds[1::2], strict=True):
        until[first:last] = start + last
    return until
