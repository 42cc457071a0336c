"""StepPlan -> padded numpy arrays, used by every backend.

Padding is harmless by construction: a padded token is written to block 0, a padded row holds no tokens, and a padded
sample goes to slot -1, the last one, which a backend keeps for that and no request has.

Letters: T tokens, R rows, S samples, W words of a sample.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aphrodite.domain.scheduling.draws import uniforms
from aphrodite.domain.scheduling.sampling_words import (
    STAGE_WORDS,
    STEP_WORDS,
    SamplingNeeds,
    needs_of,
    sampling_words,
    streams_of,
)
from aphrodite.domain.scheduling.stage_words import toss
from aphrodite.domain.scheduling.step import DecodeRows, RowPlan, StepPlan
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
    sees_forward: bool  # whether any token sees others behind itself
    prompt_starts: list[int]  # the first token of each row of the plan's prompts
    needs: SamplingNeeds
    stages: np.ndarray | None  # int32 [num_samples, X], see `stage_words`; None: nobody has any
    suppressed: np.ndarray  # int32 [n, 2]: (sample, token id) that must not be drawn


def flatten(plan: StepPlan, block_size: int, pad: Callable[[StepShape], StepShape] | None = None) -> FlatStep:
    """Lay out a step. `pad` maps the exact sizes to the bucket that the backend has a program for; None: exact."""
    decode, prompts = plan.decode, plan.prompts
    num_decode, num_tokens, num_rows, num_samples = len(decode), plan.num_tokens, plan.num_rows, plan.num_samples
    num_blocks = max([decode.block_table.shape[1], *(len(row.block_ids) for row in prompts)])
    exact = StepShape(num_tokens, num_rows, num_blocks, num_samples)
    shape = pad(exact) if pad else exact
    buffer = np.zeros(num_words(shape), dtype=np.int32)
    arrays: StepArrays[np.ndarray] = unpack(buffer, shape, np.float32)
    samples = arrays.samples
    for slots in (arrays.token_slots, arrays.feature_rows, samples.slots):
        slots.fill(-1)

    _lay_decode_rows(arrays, decode, block_size)
    start, prompt_starts = num_decode, []
    for index, row in enumerate(prompts, start=num_decode):
        _lay_prompt(arrays, row, index, start, block_size)
        prompt_starts.append(start)
        start += row.num_tokens
    arrays.row_starts[num_rows:] = num_tokens

    words, suppressed, lengths = decode.sampling, decode.suppressed, arrays.kv_lengths[:num_decode]
    sampling = [
        (start + row.num_tokens - 1, row) for start, row in zip(prompt_starts, prompts, strict=True) if row.samples
    ]
    if sampling:
        words = np.concatenate([words, *(sampling_words(row.sampling, row.seed)[None] for _, row in sampling)])
        lengths = np.append(lengths, [row.start + row.num_tokens for _, row in sampling])
        samples.tokens[num_decode:num_samples] = [token for token, _ in sampling]
        samples.slots[num_decode:num_samples] = [row.slot for _, row in sampling]
        pairs = [
            (sample, token_id)
            for sample, (_, row) in enumerate(sampling, start=num_decode)
            for token_id in row.suppressed_token_ids
        ]
        suppressed = np.concatenate((suppressed, np.array(pairs, dtype=np.int32).reshape(-1, 2)))
    sampling_block(buffer, shape)[:, :num_samples] = words[:, STEP_WORDS].T
    needs, streams, positions = needs_of(words), streams_of(words), lengths.astype(np.uint64)
    samples.uniform[:num_samples] = uniforms(streams, positions)

    return FlatStep(
        shape=shape,
        buffer=buffer,
        arrays=arrays,
        num_tokens=num_tokens,
        num_samples=num_samples,
        num_single_rows=num_decode + sum(row.num_tokens == 1 for row in prompts),
        max_kv_length=int(arrays.kv_lengths.max()),
        has_features=any(row.feature_rows is not None for row in prompts),
        sees_forward=any(row.visible_until is not None for row in prompts),
        prompt_starts=prompt_starts,
        needs=needs,
        stages=toss(words[:, STAGE_WORDS], streams, positions) if needs.stages else None,
        suppressed=suppressed,
    )


def _lay_decode_rows(arrays: StepArrays[np.ndarray], decode: DecodeRows, block_size: int) -> None:
    """They stand first, and each is one row, one token and one sample."""
    count, num_blocks = decode.block_table.shape
    rows, starts = np.arange(count, dtype=np.int32), decode.starts
    arrays.token_slots[:count] = decode.slots
    arrays.rope_positions[:, :count] = starts + decode.rope_offsets
    arrays.kv_slots[:count] = decode.block_table[rows, starts // block_size] * block_size + starts % block_size
    arrays.row_starts[:count] = rows
    arrays.kv_lengths[:count] = starts + 1
    arrays.block_table[:count, :num_blocks] = decode.block_table
    arrays.samples.tokens[:count] = rows
    arrays.samples.slots[:count] = decode.slots


def _lay_prompt(arrays: StepArrays[np.ndarray], row: RowPlan, index: int, start: int, block_size: int) -> None:
    """Row `index`, its tokens from token `start` of the step on."""
    tokens, stop = slice(start, start + row.num_tokens), row.start + row.num_tokens
    positions = np.arange(row.start, stop, dtype=np.int32)
    arrays.token_ids[tokens] = row.token_ids
    arrays.rope_positions[:, tokens] = positions if row.rope_positions is None else row.rope_positions
    arrays.kv_slots[tokens] = row.block_ids[positions // block_size] * block_size + positions % block_size
    arrays.row_starts[index] = start
    arrays.kv_lengths[index] = stop
    arrays.block_table[index, : len(row.block_ids)] = row.block_ids
    if row.feature_rows is not None:
        arrays.feature_rows[tokens] = row.feature_rows
    if row.visible_until is not None:
        arrays.visible_until[tokens] = row.visible_until
