"""Attention among an image's positions, a group of images or a part of one at a time, against numpy in float64."""

import jax
import numpy as np
import pytest

from aphrodite.backends.jax_tpu import vision

IMAGES, POSITIONS, HEADS, HEAD_DIM = 5, 7, 3, 4


@pytest.mark.parametrize("group", [0.1, 0.5, 1, 2, 5, 9])
def test_attention_by_groups_of_images_or_of_queries(group: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "_SCORES_BYTES", int(group * 4 * HEADS * POSITIONS**2))
    queries, keys, values = np.random.default_rng(int(10 * group)).normal(size=(3, IMAGES, POSITIONS, HEADS, HEAD_DIM))
    scores = np.einsum("nphd,nqhd->nhpq", queries, keys) / np.sqrt(HEAD_DIM)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(vision._attend)(*(array.astype(np.float32) for array in (queries, keys, values)))
    np.testing.assert_allclose(ours, np.einsum("nhpq,nqhd->nphd", weights, values), rtol=1e-5, atol=1e-6)
