"""StepPlan -> padded numpy arrays, used by every backend.

Padding is harmless by construction: a padded token is written to block 0, a padded row holds no tokens, and a padded
sample goes to slot -1, the last one, which a backend keeps for that and no request has.

Letters: T tokens, R rows, S samples, W words of a sample.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aphrodite.domain.scheduling.sampling_words import (
    STEP_WORDS,
    SamplingNeeds,
    needs_of,
    sampling_words,
    seeds_of,
)
from aphrodite.domain.scheduling.step import StepPlan
from aphrodite.domain.scheduling.step_arrays import StepArrays, StepShape, num_words, sampling_block, unpack


@dataclass(frozen=True, slots=True)
class FlatStep:
    """A step ready for the device. The counts are those of real entries; the arrays are padded to `shape`."""

    shape: StepShape
    buffer: np.ndarray  # int32 [num_words(shape)]
    arrays: StepArrays[np.ndarray]  # views of the buffer
    num_tokens: int
    num_samples: int
    num_single_rows: int  # leading rows of one token
    max_kv_length: int
    has_features: bool  # whether any token takes one
    prompt_starts: list[int]  # the first token of each row of the plan's prompts
    needs: SamplingNeeds
    suppressed: np.ndarray  # int32 [n, 2]: (sample, token id) that must not be drawn


def flatten(plan: StepPlan, block_size: int, pad: Callable[[StepShape], StepShape] | None = None) -> FlatStep:
    """Lay out a step. `pad` maps the exact sizes to the bucket that the backend has a program for; None: exact."""
    decode, prompts = plan.decode, plan.prompts
    num_decode, num_rows = len(decode), plan.num_rows
    lengths = np.ones(num_rows, dtype=np.int32)  # [R]
    starts = np.empty(num_rows, dtype=np.int32)  # [R]
    lengths[num_decode:] = [row.num_tokens for row in prompts]
    starts[:num_decode] = decode.starts
    starts[num_decode:] = [row.start for row in prompts]
    ends = np.zeros(num_rows + 1, dtype=np.int32)  # [R + 1] token index after each row
    np.cumsum(lengths, out=ends[1:])
    num_tokens, num_samples = int(ends[-1]), plan.num_samples
    num_blocks = max([decode.block_table.shape[1], *(len(row.block_ids) for row in prompts)])
    exact = StepShape(num_tokens, num_rows, num_blocks, num_samples)
    shape = pad(exact) if pad else exact
    buffer = np.zeros(num_words(shape), dtype=np.int32)
    arrays: StepArrays[np.ndarray] = unpack(buffer, shape, np.float32)

    arrays.token_slots.fill(-1)
    arrays.feature_rows.fill(-1)
    arrays.token_slots[:num_decode] = decode.slots
    arrays.block_table[:num_decode, : decode.block_table.shape[1]] = decode.block_table
    for index, row in enumerate(prompts, start=num_decode):
        arrays.token_ids[ends[index] : ends[index + 1]] = row.token_ids
        arrays.block_table[index, : len(row.block_ids)] = row.block_ids
        if row.feature_rows is not None:
            arrays.feature_rows[ends[index] : ends[index + 1]] = row.feature_rows
    row_of_token = np.repeat(np.arange(num_rows, dtype=np.int32), lengths)  # [T]
    positions = np.arange(num_tokens, dtype=np.int32) + (starts - ends[:-1])[row_of_token]
    arrays.positions[:num_tokens] = positions
    blocks = arrays.block_table[row_of_token, positions // block_size]
    arrays.kv_slots[:num_tokens] = blocks * block_size + positions % block_size
    arrays.row_starts[: num_rows + 1] = ends
    arrays.row_starts[num_rows + 1 :] = num_tokens
    arrays.kv_lengths[:num_rows] = kv_lengths = starts + lengths

    words, suppressed = decode.sampling, decode.suppressed
    sample_rows = np.arange(num_samples)  # [S] the decode rows, and of the others those that sample
    sample_slots = decode.slots
    if prompts:
        sampling = [(num_decode + index, row) for index, row in enumerate(prompts) if row.samples]
        sample_rows[num_decode:] = [index for index, _ in sampling]
        sample_slots = np.append(sample_slots, np.array([row.slot for _, row in sampling], dtype=np.int32))
        words = np.concatenate([words, *(sampling_words(row.sampling, row.seed)[None] for _, row in sampling)])
        pairs = [
            (sample, token_id)
            for sample, (_, row) in enumerate(sampling, start=num_decode)
            for token_id in row.suppressed_token_ids
        ]
        suppressed = np.concatenate((suppressed, np.array(pairs, dtype=np.int32).reshape(-1, 2)))
    samples = arrays.samples
    samples.tokens[:num_samples] = ends[sample_rows + 1] - 1
    samples.slots.fill(-1)
    samples.slots[:num_samples] = sample_slots
    sampling_block(buffer, shape)[:, :num_samples] = words[:, STEP_WORDS].T
    samples.uniform[:num_samples] = uniforms(seeds_of(words), kv_lengths[sample_rows].astype(np.uint64))

    return FlatStep(
        shape=shape,
        buffer=buffer,
        arrays=arrays,
        num_tokens=num_tokens,
        num_samples=num_samples,
        num_single_rows=int(np.count_nonzero(lengths == 1)),
        max_kv_length=int(kv_lengths.max()),
        has_features=any(row.feature_rows is not None for row in prompts),
        prompt_starts=ends[num_decode:-1].tolist(),
        needs=needs_of(words),
        suppressed=suppressed,
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
