"""Attention over the paged cache against dense numpy attention in float64."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from tests.backends.sight import visible_until

from aphrodite.backends.jax_tpu import kernels, native
from aphrodite.backends.jax_tpu.attention import Attend, AttentionShape, choose_block_size
from aphrodite.backends.jax_tpu.attention_pallas import attend_pallas
from aphrodite.backends.jax_tpu.attention_plain import attend_plain
from aphrodite.backends.jax_tpu.kernels import choose_kernels
from aphrodite.backends.jax_tpu.native import attend_native, is_native
from aphrodite.backends.native.library import load_library
from aphrodite.domain.architectures.spec import AttentionSpec
from aphrodite.domain.errors import CapacityError


@dataclass(frozen=True)
class Paged:
    """Rows over a cache whose blocks lie in random order; what no row owns is NaN."""

    queries: np.ndarray  # [T, H, D], padding included
    cache: np.ndarray  # [blocks, block_size, 2K, D]
    row_starts: np.ndarray
    kv_lengths: np.ndarray
    block_table: np.ndarray
    visible_until: np.ndarray | None = None

    @classmethod
    def random(
        cls, rows: list[tuple[int, int]], num_tokens: int, num_rows: int, heads: tuple[int, int], block_size: int,
        head_dim: int = 16, num_blocks: int = 24, foreign: float = np.nan,
    ) -> "Paged":  # fmt: skip
        """`rows` are (tokens in this step, tokens with those before); `heads` (query, key/value)."""
        rng = np.random.default_rng(len(rows) + block_size)
        cache = np.full((num_blocks * len(rows) + 1, block_size, 2 * heads[1], head_dim), foreign, np.float32)
        free = rng.permutation(np.arange(1, len(cache)))
        table = np.zeros((num_rows, num_blocks), np.int32)
        starts = np.zeros(num_rows + 1, np.int32)
        lengths = np.zeros(num_rows, np.int32)
        for index, (count, length) in enumerate(rows):
            owned = -(-length // block_size)
            table[index, :owned], free = free[:owned], free[owned:]
            filled = np.full((owned * block_size, *cache.shape[2:]), foreign, np.float32)
            filled[:length] = rng.normal(size=(length, *cache.shape[2:]))
            cache[table[index, :owned]] = filled.reshape(owned, *cache.shape[1:])
            starts[index + 1 :] += count
            lengths[index] = length
        queries = rng.normal(size=(num_tokens, heads[0], head_dim)).astype(np.float32)
        return cls(queries, cache, starts, lengths, table)

    def run(self, attend: Attend, attention: AttentionSpec) -> np.ndarray:
        found = jax.jit(attend, static_argnums=5)(
            self.queries, self.cache, self.row_starts, self.kv_lengths, self.block_table, attention, self.visible_until
        )
        return np.asarray(found, np.float32)

    def seeing_forward(self) -> "Paged":
        """The same, with spans that see themselves whole in every row of several tokens."""
        until, rng = np.zeros(len(self.queries), np.int32), np.random.default_rng(1)
        for first, last, length in zip(self.row_starts, self.row_starts[1:], self.kv_lengths, strict=False):
            count = last - first
            until[first:last] = visible_until(int(length - count), int(count), int(count), rng)
        return replace(self, visible_until=until)

    def expected(self, row: int, attention: AttentionSpec) -> np.ndarray:
        """Dense attention of one row, float64."""
        first, last, length = self.row_starts[row], self.row_starts[row + 1], self.kv_lengths[row]
        kv = self.cache[self.block_table[row]].reshape(-1, *self.cache.shape[2:])[:length].astype(np.float64)
        queries = self.queries[first:last].astype(np.float64)
        group = queries.shape[1] // (kv.shape[1] // 2)
        keys, values = (np.repeat(kv[:, part::2], group, axis=1) for part in (0, 1))
        scores = np.einsum("qhd,khd->hqk", queries, keys) * attention.scale
        if attention.softcap is not None:
            scores = attention.softcap * np.tanh(scores / attention.softcap)
        at, seen = np.arange(length), np.arange(length - (last - first), length)[:, None]
        until = np.zeros(last - first) if self.visible_until is None else self.visible_until[first:last]
        mask = ((at <= seen) | (at < until[:, None])) & (at > seen - (attention.window or length))
        shares = np.where(mask, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0)
        return np.einsum("hqk,khd->qhd", shares / shares.sum(axis=-1, keepdims=True), values)

    def check(self, attend: Attend, attention: AttentionSpec, tolerance: float = 2e-5) -> None:
        found = self.run(attend, attention)
        for row in np.flatnonzero(np.diff(self.row_starts)):
            part = found[self.row_starts[row] : self.row_starts[row + 1]]
            np.testing.assert_allclose(part, self.expected(row, attention), atol=tolerance, rtol=tolerance)


LAYERS = (AttentionSpec(0.25), AttentionSpec(0.2, window=5, softcap=1.5), AttentionSpec(0.25, window=128))
SINGLES = [(1, 1), (1, 130), (1, 7), (1, 300), (1, 40), (1, 8), (1, 9), (1, 2), (1, 64), (1, 65)]


@pytest.mark.parametrize("attention", LAYERS, ids=str)
@pytest.mark.parametrize(
    ("rows", "num_tokens", "num_rows"),
    [
        (SINGLES, 16, 11),
        ([(1, 12), (1, 3), (70, 70), (2, 190), (129, 200)], 256, 7),
        ([(64, 64), (65, 65)], 129, 2),
        ([(1, 33)], 1, 1),
    ],
    ids=["singles", "mixed", "full", "one"],
)
@pytest.mark.parametrize("attend", [attend_plain, attend_native])
def test_on_a_cpu(
    attend: Attend, rows: list[tuple[int, int]], num_tokens: int, num_rows: int, attention: AttentionSpec
) -> None:
    assert is_native(np.dtype(np.float32))
    Paged.random(rows, num_tokens, num_rows, heads=(4, 2), block_size=16).check(attend, attention)


@pytest.mark.parametrize("attention", LAYERS[:2], ids=str)
@pytest.mark.parametrize("attend", [attend_plain, attend_native])
def test_tokens_that_see_forward(attend: Attend, attention: AttentionSpec) -> None:
    rows = [(1, 12), (1, 3), (70, 70), (2, 190), (129, 200)]
    Paged.random(rows, 256, 7, heads=(4, 2), block_size=16).seeing_forward().check(attend, attention)


def test_the_kernel_in_c_leaves_zeros_in_padding() -> None:
    assert is_native(np.dtype(np.float32))
    found = Paged.random(SINGLES, 16, 11, heads=(4, 2), block_size=16).run(attend_native, LAYERS[0])
    assert not found[len(SINGLES) :].any()


def test_without_a_compiler_the_plain_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "load_library", load_library.__wrapped__)  # as if for the first time
    monkeypatch.setattr(native, "_register", native._register.__wrapped__)
    monkeypatch.setattr(kernels, "is_native", is_native.__wrapped__)
    shape = AttentionShape(4, 2, 16, 16, np.dtype(np.float32))
    assert choose_kernels(shape, jax.devices("cpu")[0]).attend is attend_plain


class Tpu:
    """Told to be a TPU; what is sent there stays on the CPU."""

    platform = "tpu"


@pytest.fixture
def tpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(jax, "device_put", lambda arrays, _: arrays)
    return Tpu()


def plain(*inputs: Any) -> jax.Array:
    queries, cache, *others = inputs
    return attend_plain(queries, cache[..., : queries.shape[2]], *others)


def off_by_one(*inputs: Any) -> jax.Array:
    *others, attention = inputs
    return plain(*others, replace(attention, window=attention.window and attention.window + 1))


SHAPE = AttentionShape(32, 32, 128, 16, np.dtype(np.float32))


def test_the_packaged_kernel_where_it_is_right(tpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "attend_packaged", plain)
    assert choose_kernels(SHAPE, tpu).attend is plain


def test_ours_where_the_packaged_kernel_is_wrong(
    tpu: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "attend_packaged", off_by_one)
    assert choose_kernels(SHAPE, tpu).attend is attend_pallas
    assert "computes wrongly" in caplog.text


def test_ours_where_the_packaged_kernel_does_not_run(tpu: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As on this CPU."""
    assert choose_kernels(SHAPE, tpu).attend is attend_pallas
    assert "does not run here" in caplog.text


def test_ours_where_the_packaged_kernel_takes_no_such_heads(tpu: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert choose_kernels(replace(SHAPE, num_kv_heads=3, num_heads=3), tpu).attend is attend_pallas
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("max_model_len", "num_rows", "platform", "block_size"),
    [(4096, 256, "tpu", 16), (8192, 256, "tpu", 16), (32768, 256, "tpu", 64), (131072, 256, "tpu", 256),
     (32768, 64, "tpu", 16), (131072, 256, "cpu", 16)],
)  # fmt: skip
def test_block_tables_fit_a_tpus_scalar_memory(
    max_model_len: int, num_rows: int, platform: str, block_size: int
) -> None:
    assert choose_block_size(16, num_rows, max_model_len, platform) == block_size


def test_more_rows_than_the_largest_blocks_make_room_for() -> None:
    with pytest.raises(CapacityError, match=r"20000 sequences of 4096 tokens, 512 tokens each.* 640,000 bytes"):
        choose_block_size(16, 20_000, 4096, "tpu")


@pytest.mark.parametrize(
    ("heads", "head_dim", "block_size"), [((9, 3), 64, 16), ((4, 4), 128, 1), ((6, 1), 20, 7), ((8, 2), 32, 256)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (jnp.bfloat16, 2e-2)])
def test_heads_of_the_kernel_in_c(
    heads: tuple[int, int], head_dim: int, block_size: int, dtype: type, tolerance: float
) -> None:
    assert is_native(np.dtype(dtype))
    num_blocks = 300 // block_size + 1
    paged = Paged.random([*SINGLES, (3, 20)], 13, 12, heads, block_size, head_dim, num_blocks)
    rounded = replace(paged, queries=paged.queries.astype(dtype), cache=paged.cache.astype(dtype))
    for attention in LAYERS[:2]:
        rounded.check(attend_native, attention, tolerance)


@pytest.mark.parametrize("block_size", [1, 8, 32, 256])
@pytest.mark.parametrize("heads", [(6, 2), (3, 3), (4, 1)])
def test_plain_blocks_and_heads(block_size: int, heads: tuple[int, int]) -> None:
    rows = [(1, 17), (5, 21), (3, 3)]
    Paged.random(rows, 16, 4, heads, block_size).check(attend_plain, LAYERS[0])


@pytest.mark.parametrize("attention", LAYERS[:2], ids=str)
@pytest.mark.parametrize(
    ("rows", "num_tokens", "num_rows"),
    [([(1, 20), (1, 150), (1, 1)], 4, 4), ([(1, 33), (70, 70), (3, 140)], 76, 4)],
    ids=["singles", "mixed"],
)
def test_pallas(rows: list[tuple[int, int]], num_tokens: int, num_rows: int, attention: AttentionSpec) -> None:
    """The TPU kernel in the interpreter, which also holds every access to its bounds."""
    problem = Paged.random(rows, num_tokens, num_rows, heads=(4, 2), block_size=32, head_dim=128, num_blocks=5)
    with pltpu.force_tpu_interpret_mode():
        problem.check(attend_pallas, attention)
        if attention.window is not None and num_tokens > len(rows):
            problem.seeing_forward().check(attend_pallas, attention)
