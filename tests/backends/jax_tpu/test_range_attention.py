"""Attention within ranges of keys, against numpy in float64."""

import jax
import numpy as np
import pytest

from aphrodite.backends.jax_tpu.range_attention import CHUNK, attend_within
from aphrodite.domain.scheduling.encoding import key_ranges

HEADS, HEAD_DIM = 2, 4


@pytest.mark.parametrize(
    ("lengths", "size"),
    [([5, 1, 9], 15), ([5, 1, 9], 20), ([40] * 12, 2 * CHUNK), ([700], 3 * CHUNK), ([100, 300, 8, 200], 3 * CHUNK)],
    ids=str,
)
def test_each_patch_sees_its_own_segment(lengths: list[int], size: int) -> None:
    """Within a chunk, over several, and with padding behind them, which is zeros."""
    queries, keys, values = np.random.default_rng(size).normal(size=(3, size, HEADS, HEAD_DIM))
    expected, start = np.zeros((size, HEADS, HEAD_DIM)), 0
    for length in lengths:
        own = slice(start, start + length)
        scores = np.einsum("phd,qhd->hpq", queries[own], keys[own]) / np.sqrt(HEAD_DIM)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        expected[own] = np.einsum("hpq,qhd->phd", weights, values[own])
        start += length
    arrays = (array.astype(np.float32) for array in (queries, keys, values))
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(attend_within)(*arrays, key_ranges(np.array(lengths, np.int32), size))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
