from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.draws import stream_of, uniforms
from aphrodite.domain.scheduling.flatten import flatten
from aphrodite.domain.scheduling.step import RowPlan, StepPlan
from aphrodite.domain.scheduling.step_arrays import StepShape, num_words, unpack

BLOCK_SIZE = 4

samplings = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7]),
    top_k=st.sampled_from([-1, 0, 5]),
    top_p=st.sampled_from([1.0, 0.9]),
    min_p=st.sampled_from([0.0, 0.1]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, -0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.5]),
    logprobs=st.sampled_from([None, 0, 3]),
    logit_bias=st.sampled_from([{}, {3: 1.0}]),
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[RowPlan, ...]:
    lengths = sorted(draw(st.lists(st.integers(1, 9), min_size=1, max_size=6)), key=lambda length: length > 1)
    rows = []
    for slot, num_tokens in enumerate(lengths):
        start = draw(st.integers(0, 9))
        num_blocks = -(-(start + num_tokens) // BLOCK_SIZE)
        in_flight = num_tokens == 1 and draw(st.booleans())
        samples = in_flight or draw(st.booleans())
        rope = draw(st.none() | st.lists(st.integers(0, 9), min_size=3 * num_tokens, max_size=3 * num_tokens))
        features = draw(st.none() | st.lists(st.integers(-1, 50), min_size=num_tokens, max_size=num_tokens))
        rows.append(
            RowPlan(
                slot=slot + 2,
                start=start,
                num_tokens=num_tokens,
                token_ids=None if in_flight else np.arange(100, 100 + num_tokens, dtype=np.int32),
                block_ids=np.array(draw(st.permutations(range(1, 1 + num_blocks))), dtype=np.int32) + 10 * slot,
                samples=samples,
                sampling=draw(samplings),
                seed=draw(st.integers(0, 2**64 - 1)),
                rope_offset=draw(st.integers(-9, 0)) if in_flight else 0,
                rope_positions=None if in_flight or rope is None else np.array(rope, np.int32).reshape(3, -1),
                feature_rows=None if in_flight or features is None else np.array(features, dtype=np.int32),
                suppressed_token_ids=draw(st.sampled_from([(), (2,), (2, 7)])) if samples else (),
            )
        )
    return (*sorted(rows, key=lambda row: (row.token_ids is not None, row.num_tokens > 1)),)


def slowly(rows: tuple[RowPlan, ...], shape: StepShape) -> dict[str, Any]:
    """The arrays, token by token and row by row, with the padding as its own rule."""
    token_ids, token_slots, kv_slots, feature_rows, row_starts = [], [], [], [], [0]
    rope_positions: list[list[int]] = [[], [], []]
    sampled = []
    for row in rows:
        for offset in range(row.num_tokens):
            position = row.start + offset
            token_ids.append(0 if row.token_ids is None else int(row.token_ids[offset]))
            token_slots.append(row.slot if row.token_ids is None else -1)
            for axis, along in enumerate(rope_positions):
                given = row.rope_positions
                along.append(position + row.rope_offset if given is None else int(given[axis, offset]))
            feature_rows.append(-1 if row.feature_rows is None else int(row.feature_rows[offset]))
            kv_slots.append(int(row.block_ids[position // BLOCK_SIZE]) * BLOCK_SIZE + position % BLOCK_SIZE)
        row_starts.append(len(token_ids))
        if row.samples:
            sampled.append((row, len(token_ids) - 1))

    def padded(values: list[Any], length: int, filler: float = 0) -> list[Any]:
        return values + [filler] * (length - len(values))

    params = [row.sampling for row, _ in sampled]
    tables = [padded(row.block_ids.tolist(), shape.num_blocks) for row in rows]
    return {
        "token_ids": padded(token_ids, shape.num_tokens),
        "token_slots": padded(token_slots, shape.num_tokens, -1),
        "kv_slots": padded(kv_slots, shape.num_tokens),
        "feature_rows": padded(feature_rows, shape.num_tokens, -1),
        "rope_positions": [padded(along, shape.num_tokens) for along in rope_positions],
        "row_starts": padded(row_starts, shape.num_rows + 1, len(token_ids)),
        "kv_lengths": padded([row.start + row.num_tokens for row in rows], shape.num_rows),
        "block_table": tables + [[0] * shape.num_blocks] * (shape.num_rows - len(tables)),
        "sample_tokens": padded([token for _, token in sampled], shape.num_samples),
        "sample_slots": padded([row.slot for row, _ in sampled], shape.num_samples, -1),
        "sample_has_bias": padded([int(bool(p.logit_bias)) for p in params], shape.num_samples),
        "sample_top_k": padded([5 if p.top_k == 5 else 0 for p in params], shape.num_samples),
    } | {
        f"sample_{name}": padded([getattr(p, name) for p in params], shape.num_samples)
        for name in ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
    }


@given(rows=steps(), extra=st.none() | st.tuples(*[st.integers(0, 5)] * 4))
def test_every_number_is_where_a_slow_loop_puts_it(rows: tuple[RowPlan, ...], extra: tuple[int, ...] | None) -> None:
    exact = StepShape(
        num_tokens=sum(row.num_tokens for row in rows),
        num_rows=len(rows),
        num_blocks=max(len(row.block_ids) for row in rows),
        num_samples=sum(row.samples for row in rows),
    )
    shape = StepShape(*(size + more for size, more in zip(exact, extra or (0, 0, 0, 0), strict=True)))
    asked = []

    def pad(size: StepShape) -> StepShape:
        asked.append(size)
        return shape

    flat = flatten(StepPlan.of(rows), BLOCK_SIZE, pad if extra else None)
    assert asked == ([exact] if extra else [])
    assert flat.shape == shape
    arrays = {**flat.arrays._asdict(), **{f"sample_{k}": v for k, v in flat.arrays.samples._asdict().items()}}
    for name, values in slowly(rows, shape).items():
        expected = np.array(values, dtype=arrays[name].dtype).reshape(arrays[name].shape)
        np.testing.assert_array_equal(arrays[name], expected, err_msg=name)
    sampled = [row for row in rows if row.samples]
    for index, row in enumerate(sampled):
        one = uniforms(np.array([stream_of(row.seed)], np.uint64), np.array([row.start + row.num_tokens], np.uint64))
        assert flat.arrays.samples.uniform[index] == one[0], "a draw depends on its own row alone"
    assert flat.num_tokens == exact.num_tokens
    assert flat.num_samples == exact.num_samples
    assert flat.num_single_rows == sum(row.num_tokens == 1 for row in rows)
    assert flat.max_kv_length == max(row.start + row.num_tokens for row in rows)
    expected_pairs = [[i, token_id] for i, row in enumerate(sampled) for token_id in row.suppressed_token_ids]
    assert flat.suppressed.tolist() == expected_pairs
    assert flat.suppressed.shape == (len(expected_pairs), 2)


@given(steps())
def test_needs_name_what_any_sample_asks_for(rows: tuple[RowPlan, ...]) -> None:
    params = [row.sampling for row in rows if row.samples]
    drawn = [p for p in params if p.temperature > 0]
    needs = flatten(StepPlan.of(rows), BLOCK_SIZE).needs
    assert needs.draws == (drawn != [])
    assert needs.filters == any(p.top_k == 5 or p.top_p == 0.9 or p.min_p == 0.1 for p in drawn)
    assert needs.penalties == any(
        (p.presence_penalty, p.frequency_penalty, p.repetition_penalty) != (0.0, 0.0, 1.0) for p in params
    )
    assert needs.bias == any(p.logit_bias for p in params)
    assert needs.num_logprobs == max((-1 if p.logprobs is None else p.logprobs for p in params), default=-1)


def test_a_step_is_one_buffer_and_its_fields_fill_it_without_a_gap() -> None:
    shape = StepShape(7, 3, 2, 4)
    buffer = np.arange(num_words(shape), dtype=np.int32)
    *by_token_and_row, samples = unpack(buffer, shape, np.float32)
    arrays = [*by_token_and_row, *samples]
    assert all(np.shares_memory(array, buffer) for array in arrays)
    words = np.concatenate([array.reshape(-1).view(np.int32) for array in arrays])
    np.testing.assert_array_equal(words, buffer)


GRID = [np.array(pair, dtype=np.uint64) for pair in np.meshgrid(range(300), range(300))]


@pytest.mark.parametrize("stride", [1, 2**20, 2**63 // 300 * 2, 0x9E3779B97F4A7C15])
def test_draws_are_spread_evenly_over_seeds_and_positions(stride: int) -> None:
    streams = np.array([stream_of(seed * stride % 2**64) for seed in range(300)], dtype=np.uint64)
    draws = uniforms(streams[GRID[0]].ravel(), GRID[1].ravel())
    assert draws.dtype == np.float32
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    table = draws.reshape(300, 300)
    # Chi-square of 100 bins; 99 degrees of freedom give 99 +- 14, and 180 is beyond one in a million.
    for sample in (draws, table[0], table[:, 0], np.diagonal(table)):
        counts = np.histogram(sample, bins=100, range=(0, 1))[0]
        assert ((counts - len(sample) / 100) ** 2).sum() / (len(sample) / 100) < 180
    # Neighbours, along seeds and along positions, have nothing to do with each other.
    for first, second in ((table[:, 1:], table[:, :-1]), (table[1:], table[:-1]), (table[1:, 1:], table[:-1, :-1])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(first.size)
    assert len(np.unique(draws)) > 0.99 * len(draws)


def test_draws_are_the_same_everywhere_and_for_ever() -> None:
    pairs = [(0, 0), (0, 1), (1, 0), (2**64 - 1, 2**32)]
    streams, positions = zip(*((stream_of(seed), position) for seed, position in pairs), strict=True)
    draws = uniforms(np.array(streams, dtype=np.uint64), np.array(positions, dtype=np.uint64))
    assert draws.tolist() == [_draw_in_plain_integers(*pair) for pair in pairs]


def _draw_in_plain_integers(seed: int, position: int) -> float:
    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    return (mix((mix(seed) + 0x9E3779B97F4A7C15 * (position + 1)) % 2**64) >> 40) / 2**24
