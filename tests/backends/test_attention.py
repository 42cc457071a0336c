from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.backends.sight import visible_until

from aphrodite.backends.cuda.attention import AttentionBatch
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.domain.architectures.spec import AttentionSpec
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.flatten import FlatStep, StepShape, flatten, unpack
from aphrodite.domain.scheduling.step import RowPlan, StepPlan

NUM_LAYERS = 2


def dense(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, until: np.ndarray, attention: AttentionSpec
) -> np.ndarray:
    """Attention of one sequence's last tokens, one by one, to what stands before `until` [T].

    Queries [T, H, D], keys and values [C, K, D].
    """
    group = queries.shape[1] // keys.shape[1]
    output = np.zeros(queries.shape)
    for token, head in np.ndindex(queries.shape[:2]):
        own, stop = len(keys) - len(queries) + token, until[token]
        first = 0 if attention.window is None else max(0, own + 1 - attention.window)
        scores = keys[first:stop, head // group] @ queries[token, head] * attention.scale
        if attention.softcap is not None:
            scores = attention.softcap * np.tanh(scores / attention.softcap)
        weights = np.exp(scores - scores.max())
        output[token, head] = weights @ values[first:stop, head // group] / weights.sum()
    return output


@dataclass(frozen=True)
class Step:
    """Rows over a cache in which all but their own keys and values is not a number."""

    flat: FlatStep
    batch: AttentionBatch
    caches: KvCache
    until: list[np.ndarray]  # of each row's tokens
    queries: torch.Tensor  # float32 [T, H, D]
    sequences: list[tuple[np.ndarray, np.ndarray]]  # of layer 1: keys and values [C, K, D] of each row

    def attend(self, attention: AttentionSpec) -> torch.Tensor:
        return self.batch.attend(1, self.queries, attention)


def make_step(
    rows: list[tuple[int, int]],
    block_size: int,
    num_kv_heads: int,
    group: int,
    padding: int = 0,
    seed: int = 0,
    *,
    sees_forward: bool = False,
) -> Step:
    """Rows are (start, tokens); their blocks lie about in any order."""
    generator = np.random.default_rng(seed)
    rows = sorted(rows, key=lambda row: row[1] > 1)
    head_dim = 8
    counts = [-(-(start + length) // block_size) for start, length in rows]
    order = generator.permutation(np.arange(1, 1 + sum(counts) + 3)).astype(np.int32)
    tables = np.split(order[: sum(counts)], np.cumsum(counts)[:-1])
    forward = [visible_until(start, length * sees_forward, length, generator) for start, length in rows]
    plan = StepPlan.of(
        tuple(
            RowPlan(
                slot, start, length, np.zeros(length, np.int32), table, False, SamplingParams(), 0,
                visible_until=beyond if beyond.any() else None,
            )
            for slot, ((start, length), table, beyond) in enumerate(zip(rows, tables, forward, strict=True))
        )
    )  # fmt: skip
    flat = flatten(plan, block_size, lambda s: StepShape(*(size + padding for size in s)))
    arrays = unpack(torch.from_numpy(flat.buffer), flat.shape, torch.float32)
    caches = KvCache(NUM_LAYERS, len(order) + 1, block_size, num_kv_heads, head_dim, torch.float32, torch.device("cpu"))
    caches.keys.fill_(torch.nan)
    caches.values.fill_(torch.nan)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    sequences, step_numbers = [], []
    for (start, length), table in zip(rows, tables, strict=True):
        keys, values = normal(start + length, num_kv_heads, head_dim), normal(start + length, num_kv_heads, head_dim)
        caches.clear(torch.from_numpy(table[: -(-start // block_size)]).long())  # as the steps before this one did
        slots = [int(table[p // block_size]) * block_size + p % block_size for p in range(start)]
        cached = torch.from_numpy(np.concatenate((keys[:start], values[:start]), axis=1))
        caches.write(1, caches.places(torch.tensor(slots, dtype=torch.int64)), cached)
        sequences.append((keys, values))
        step_numbers.append(np.concatenate((keys[start:], values[start:]), axis=1))
    batch = AttentionBatch(flat, arrays, caches)
    caches.clear(batch.partial_blocks)
    filler = np.full((padding, 2 * num_kv_heads, head_dim), np.nan, dtype=np.float32)
    batch.store(1, torch.from_numpy(np.concatenate([*step_numbers, filler])))
    # As a decoder passes them: a slice of queries, keys and values in one.
    merged = torch.from_numpy(normal(flat.shape.num_tokens, num_kv_heads * (group + 2), head_dim))
    queries = merged[:, : num_kv_heads * group]
    until = [
        np.maximum(beyond, np.arange(start, start + length) + 1)
        for beyond, (start, length) in zip(forward, rows, strict=True)
    ]
    return Step(flat, batch, caches, until, queries, sequences)


layers = st.builds(
    AttentionSpec,
    st.sampled_from([0.35, 1.0]),
    st.none() | st.integers(1, 30),
    st.none() | st.sampled_from([0.5, 30.0]),
)
rows = st.lists(st.tuples(st.integers(0, 20), st.one_of(st.just(1), st.integers(2, 9))), min_size=1, max_size=5)


@settings(max_examples=120)
@given(
    rows=rows,
    block_size=st.sampled_from([1, 3, 4, 16]),
    num_kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    layers=st.lists(layers, min_size=1, max_size=3),
    padding=st.integers(0, 3),
    seed=st.integers(0, 5),
    sees_forward=st.booleans(),
)
def test_every_row_attends_to_its_own_sequence(
    rows: list[tuple[int, int]],
    block_size: int,
    num_kv_heads: int,
    group: int,
    layers: list[AttentionSpec],
    padding: int,
    seed: int,
    sees_forward: bool,
) -> None:
    step = make_step(rows, block_size, num_kv_heads, group, padding, seed, sees_forward=sees_forward)
    for attention in layers:  # those of one model may differ, and share what a step made ready
        output = step.attend(attention).numpy()
        assert output.shape == step.queries.shape
        first = 0
        for until, (keys, values) in zip(step.until, step.sequences, strict=True):
            length = len(until)
            expected = dense(step.queries[first : first + length].numpy(), keys, values, until, attention)
            np.testing.assert_allclose(output[first : first + length], expected, rtol=1e-5, atol=1e-5)
            first += length


def test_a_step_writes_the_slots_of_its_own_tokens_in_its_own_layer() -> None:
    step = make_step([(3, 1), (2, 5)], block_size=4, num_kv_heads=2, group=1)
    for numbers in (step.caches.keys, step.caches.values):
        written = torch.isfinite(numbers) & (numbers != 0)  # [L, slots, K, D] in whichever order of a block's numbers
        assert written.flatten(1).sum(dim=-1).tolist() == [0, (4 + 7) * 2 * 8]


def test_one_row_of_several_tokens_equals_rows_of_one_token_each() -> None:
    step = make_step([(0, 6)], block_size=4, num_kv_heads=2, group=2)
    whole = step.attend(AttentionSpec(0.4))
    slots = step.flat.arrays.kv_slots
    for position in range(6):
        plan = StepPlan.of((RowPlan(0, position, 1, None, _blocks(slots, position), False, SamplingParams(), 0),))
        flat = flatten(plan, 4)
        batch = AttentionBatch(flat, unpack(torch.from_numpy(flat.buffer), flat.shape, torch.float32), step.caches)
        alone = batch.attend(1, step.queries[position : position + 1], AttentionSpec(0.4))
        torch.testing.assert_close(alone[0], whole[position])


def _blocks(slots: np.ndarray, position: int) -> np.ndarray:
    return np.array([int(slots[p]) // 4 for p in range(0, position + 1, 4)], dtype=np.int32)
