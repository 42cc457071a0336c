"""Keys and values on their way into the cache, in plain code and in C++, against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aphrodite.backends.jax_tpu.native import is_native, rotate_and_store_native
from aphrodite.backends.jax_tpu.rotary import QkNorm, Rotary, RotateAndStore, rotate_and_store

EPSILON = 1e-3
NUM_BLOCKS = 12


def expected_head(x: np.ndarray, angles: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """x [T, heads, D] as complex numbers of the halves, turned by angles [T, D / 2]."""
    if weight is not None:
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON) * weight
    half = x.shape[-1] // 2
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)[:, None]
    return np.concatenate((turned.real, turned.imag), axis=-1)


@pytest.mark.parametrize("way", [rotate_and_store, rotate_and_store_native])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (jnp.bfloat16, 6e-2)])
@settings(max_examples=20)  # each of other shapes, and compiled
@given(
    num_tokens=st.sampled_from([1, 2, 7, 64]),
    heads=st.sampled_from([(1, 1), (4, 2), (9, 3)]),
    head_dim=st.sampled_from([2, 20, 64, 128]),
    block_size=st.sampled_from([7, 16]),
    has_norm=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_queries_and_the_cache(
    way: RotateAndStore, dtype: type, tolerance: float, num_tokens: int, heads: tuple[int, int], head_dim: int,
    block_size: int, has_norm: bool, seed: int,
) -> None:  # fmt: skip
    assert is_native(np.dtype(dtype))
    rng = np.random.default_rng(seed)
    num_heads, kv_heads = heads

    def rounded(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype).astype(np.float64)

    qkv = rounded(num_tokens, num_heads + 2 * kv_heads, head_dim)
    norms = rounded(2, head_dim)
    angles = rng.uniform(0, 100, size=(num_tokens, head_dim // 2))
    cache = rounded(NUM_BLOCKS, block_size, 2 * kv_heads, head_dim)
    slots = rng.permutation(NUM_BLOCKS * block_size)[:num_tokens].astype(np.int32)

    def run(qkv: jax.Array, norms: jax.Array, *rest: jax.Array) -> tuple[jax.Array, jax.Array]:
        return way(qkv, QkNorm(*norms, EPSILON) if has_norm else None, Rotary(*rest[:2]), *rest[2:])

    arguments = (each.astype(dtype) for each in (qkv, norms, np.cos(angles), np.sin(angles)))
    queries, written = (np.asarray(each, np.float64) for each in jax.jit(run)(*arguments, slots, cache.astype(dtype)))

    turned = expected_head(qkv[:, :num_heads], angles, norms[0] if has_norm else None)
    np.testing.assert_allclose(queries, turned, atol=tolerance, rtol=tolerance)
    rows = cache.reshape(-1, *cache.shape[2:])
    rows[slots, ::2] = expected_head(qkv[:, num_heads : num_heads + kv_heads], angles, norms[1] if has_norm else None)
    rows[slots, 1::2] = qkv[:, num_heads + kv_heads :]
    np.testing.assert_allclose(written, cache, atol=tolerance, rtol=tolerance)
