"""StepPlan -> padded numpy arrays, used by every backend.

All numbers of a step lie in one int32 buffer, so that one copy brings them to the device; floats lie in it bit by bit.
Padding is harmless by construction: a padded token is written to block 0, a padded row holds no tokens, and a padded
sample goes to slot -1, the last one, which a backend keeps for that and no request has.

Letters: T tokens, R rows, B blocks a row, S samples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aphrodite.domain.scheduling.step import RowPlan, StepPlan

_SMALLEST_TOP_P = np.float32(1e-30)  # keeps the first token alone, as 0 is meant, which would keep none
_FLOAT_PARAMS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


class StepShape(NamedTuple):
    """The padded sizes of a step."""

    num_tokens: int
    num_rows: int
    num_blocks: int  # a row
    num_samples: int


class StepField(NamedTuple):
    """Where a field lies in the buffer."""

    name: str
    start: int
    shape: tuple[int, ...]
    is_float: bool


@lru_cache(maxsize=256)
def layout(shape: StepShape) -> tuple[tuple[StepField, ...], int]:
    """The fields of a step of this shape, and the buffer's size in 4-byte words."""
    tokens, rows, blocks, samples = shape
    sizes: list[tuple[str, tuple[int, ...], bool]] = [
        ("token_ids", (tokens,), False),  # [T] 0 where the token is read from a slot
        ("token_slots", (tokens,), False),  # [T] slot whose last sampled token to read; -1: take token_ids
        ("positions", (tokens,), False),  # [T] in its sequence
        ("kv_slots", (tokens,), False),  # [T] block * block_size + offset, where the token's KV is written
        ("feature_rows", (tokens,), False),  # [T] of the feature array, in the embedding's place; -1: the embedding
        ("row_starts", (rows + 1,), False),  # [R + 1] first token of each row
        ("kv_lengths", (rows,), False),  # [R] tokens that the row's last token attends to, itself included
        ("block_table", (rows, blocks), False),  # [R, B]
        ("sample_tokens", (samples,), False),  # [S] token whose logits are sampled
        ("sample_slots", (samples,), False),  # [S] slot that keeps the sampled token
        ("has_bias", (samples,), False),  # [S] 1: the slot's bias counts
        ("top_k", (samples,), False),  # [S] 0: all
        ("temperature", (samples,), True),  # [S] 0: greedy
        ("top_p", (samples,), True),  # [S]
        ("min_p", (samples,), True),  # [S]
        ("presence_penalty", (samples,), True),  # [S]
        ("frequency_penalty", (samples,), True),  # [S]
        ("repetition_penalty", (samples,), True),  # [S]
        ("uniform", (samples,), True),  # [S] the draw, in [0, 1)
    ]
    fields, start = [], 0
    for name, field_shape, is_float in sizes:
        fields.append(StepField(name, start, field_shape, is_float))
        start += math.prod(field_shape)
    return tuple(fields), start


def unpack(buffer: Any, shape: StepShape, float_dtype: Any) -> dict[str, Any]:
    """Views of a buffer's fields; works on any array that slices, reshapes and has `view(dtype)` (numpy, torch)."""
    arrays = {}
    for name, start, field_shape, is_float in layout(shape)[0]:
        flat = buffer[start : start + math.prod(field_shape)]
        arrays[name] = (flat.view(float_dtype) if is_float else flat).reshape(field_shape)
    return arrays


@dataclass(frozen=True, slots=True)
class SamplingNeeds:
    """What the samples of a step ask for, so that a backend leaves out what nobody needs."""

    draws: bool  # any temperature above 0
    filters: bool  # any top_k, top_p or min_p
    penalties: bool
    bias: bool
    num_logprobs: int  # most candidates any row wants; -1: no log-probabilities


@dataclass(frozen=True, slots=True)
class FlatStep:
    """A step ready for the device. The counts are those of real entries; the arrays are padded to `shape`."""

    shape: StepShape
    buffer: np.ndarray  # int32 [layout(shape) words]
    num_tokens: int
    num_samples: int
    num_single_rows: int  # leading rows of one token
    max_kv_length: int
    has_features: bool  # whether any token takes one
    needs: SamplingNeeds
    suppressed: np.ndarray  # int32 [n, 2]: (sample, token id) that must not be drawn

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return unpack(self.buffer, self.shape, np.float32)


def flatten(plan: StepPlan, block_size: int, pad: Callable[[StepShape], StepShape] | None = None) -> FlatStep:
    """Lay out a step. `pad` maps the exact sizes to the bucket that the backend has a program for; None: exact."""
    rows = plan.rows
    lengths = np.array([row.num_tokens for row in rows], dtype=np.int32)  # [R]
    starts = np.array([row.start for row in rows], dtype=np.int32)  # [R]
    ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)  # [R + 1] token index after each row
    samples = [index for index, row in enumerate(rows) if row.samples]
    exact = StepShape(int(ends[-1]), len(rows), max(len(row.block_ids) for row in rows), len(samples))
    shape = pad(exact) if pad else exact
    buffer = np.zeros(layout(shape)[1], dtype=np.int32)
    arrays = unpack(buffer, shape, np.float32)
    tokens, num_rows = exact.num_tokens, exact.num_rows

    _fill_tokens(arrays, rows, ends)
    row_of_token = np.repeat(np.arange(num_rows, dtype=np.int32), lengths)  # [T]
    positions = np.arange(tokens, dtype=np.int32) + (starts - ends[:-1])[row_of_token]
    arrays["positions"][:tokens] = positions
    for index, row in enumerate(rows):
        arrays["block_table"][index, : len(row.block_ids)] = row.block_ids
    blocks = arrays["block_table"][row_of_token, positions // block_size]
    arrays["kv_slots"][:tokens] = blocks * block_size + positions % block_size
    arrays["row_starts"][: num_rows + 1] = ends
    arrays["row_starts"][num_rows + 1 :] = tokens
    arrays["kv_lengths"][:num_rows] = starts + lengths
    _fill_samples(arrays, rows, samples, ends)

    return FlatStep(
        shape=shape,
        buffer=buffer,
        num_tokens=tokens,
        num_samples=len(samples),
        num_single_rows=int(np.count_nonzero(lengths == 1)),
        max_kv_length=int((starts + lengths).max()),
        has_features=any(row.feature_rows is not None for row in rows),
        needs=_needs([rows[index] for index in samples]),
        suppressed=np.array(
            [(s, token_id) for s, index in enumerate(samples) for token_id in rows[index].suppressed_token_ids],
            dtype=np.int32,
        ).reshape(-1, 2),
    )


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.uint64]) -> NDArray[np.float32]:
    """A draw in [0, 1) for each (seed, position), float32 [S]; seeds uint64 [S], positions uint64 [S].

    SplitMix64 (doi 10.1145/2714064.2660195) of the pair: a request's draws depend on nothing else in the batch.
    """
    with np.errstate(over="ignore"):
        x = _mix(seeds + np.uint64(0x9E3779B97F4A7C15) * (positions + np.uint64(1)))
        x = _mix(x ^ _mix(seeds ^ np.uint64(0xD1B54A32D192ED03)))
    return (x >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _fill_tokens(arrays: dict[str, np.ndarray], rows: tuple[RowPlan, ...], ends: np.ndarray) -> None:
    token_ids, token_slots, feature_rows = arrays["token_ids"], arrays["token_slots"], arrays["feature_rows"]
    token_slots.fill(-1)
    feature_rows.fill(-1)
    for row, start in zip(rows, ends.tolist(), strict=False):
        if row.token_ids is None:
            token_slots[start] = row.slot
        else:
            token_ids[start : start + row.num_tokens] = row.token_ids
        if row.feature_rows is not None:
            feature_rows[start : start + row.num_tokens] = row.feature_rows


def _fill_samples(
    arrays: dict[str, np.ndarray], rows: tuple[RowPlan, ...], samples: list[int], ends: np.ndarray
) -> None:
    arrays["sample_slots"].fill(-1)
    if not samples:
        return
    count = len(samples)
    params = [rows[index].sampling for index in samples]
    arrays["sample_tokens"][:count] = ends[1:][samples] - 1
    arrays["sample_slots"][:count] = [rows[index].slot for index in samples]
    arrays["has_bias"][:count] = [p.has_bias for p in params]
    arrays["top_k"][:count] = [min(max(p.top_k, 0), 2**31 - 1) for p in params]  # no vocabulary is larger
    numbers = np.array(list(map(attrgetter(*_FLOAT_PARAMS), params)), dtype=np.float32)  # [S, parameters]
    for name, column in zip(_FLOAT_PARAMS, numbers.T, strict=True):
        arrays[name][:count] = column
    np.maximum(arrays["top_p"][:count], _SMALLEST_TOP_P, out=arrays["top_p"][:count])
    seeds = np.array([rows[index].seed for index in samples], dtype=np.uint64)
    positions = np.array([rows[index].start + rows[index].num_tokens for index in samples], dtype=np.uint64)
    arrays["uniform"][:count] = uniforms(seeds, positions)


def _needs(rows: list[RowPlan]) -> SamplingNeeds:
    params = [row.sampling for row in rows]
    drawing = [p for p in params if not p.greedy]
    logprobs = [p.logprobs for p in params if p.logprobs is not None]
    return SamplingNeeds(
        draws=bool(drawing),
        filters=any(p.top_k > 0 or p.top_p < 1.0 or p.min_p > 0.0 for p in drawing),
        penalties=any(p.has_penalties for p in params),
        bias=any(p.has_bias for p in params),
        num_logprobs=max(logprobs, default=-1),
    )
