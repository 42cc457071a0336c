"""Products of few rows in C++ against float64 numpy."""

from pathlib import Path

import jax
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aphrodite.backends.jax_tpu import native
from aphrodite.backends.jax_tpu.native import multiply_native


def test_processors_with_avx512_have_the_kernel() -> None:
    assert native._register("multiply_float32") == ("avx512f" in Path("/proc/cpuinfo").read_text())


@settings(max_examples=40)
@given(
    rows=st.integers(1, 17),
    outputs=st.integers(1, 300),
    inputs=st.integers(1, 1400),
    seed=st.integers(0, 2**32 - 1),
)
@example(rows=16, outputs=520, inputs=640, seed=0)  # threads share the work
@example(rows=5, outputs=260, inputs=2049, seed=0)
def test_few_rows(rows: int, outputs: int, inputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(rows, inputs)), rng.normal(size=(outputs, inputs))
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    found = np.asarray(jax.jit(multiply_native)(x, weight), np.float64)
    scale = np.abs(x).astype(np.float64) @ np.abs(weight).T  # bounds what roundings add up to
    np.testing.assert_array_less(np.abs(found - x.astype(np.float64) @ weight.T) / scale, 1e-6)


def test_what_a_row_holds_stays_in_it() -> None:
    x, weight = np.ones((3, 700), np.float32), np.ones((40, 700), np.float32)
    x[1, 5] = np.nan
    weight[7, 699] = np.inf
    found = np.asarray(jax.jit(multiply_native)(x, weight))
    assert np.isnan(found[1]).all()
    assert np.isinf(found[[0, 2], 7]).all()
    np.testing.assert_array_equal(np.delete(found[[0, 2]], 7, axis=1), 700)


def test_every_thread_is_waited_for() -> None:
    weight = np.random.default_rng(0).normal(size=(768, 4096)).astype(np.float32)
    product = jax.jit(multiply_native)
    for index in range(100):  # another answer each time, or that of the last call would pass where it still lies
        x = np.zeros((16, 4096), np.float32)
        x[:, index] = index + 1
        found = np.asarray(product(x, weight))
        np.testing.assert_allclose(found, np.tile((index + 1) * weight[:, index], (16, 1)), rtol=1e-6)
