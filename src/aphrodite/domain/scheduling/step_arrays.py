"""The numbers of a step as named arrays: views of one int32 buffer, so that one copy brings them to the device.

Floats lie in the buffer bit by bit. Letters: T tokens, R rows, B blocks a row, S samples.
"""

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

Array = TypeVar("Array")  # of numpy, torch or jax


class StepShape(NamedTuple):
    """The padded sizes of a step."""

    num_tokens: int
    num_rows: int
    num_blocks: int  # a row
    num_samples: int


class SampleArrays(NamedTuple, Generic[Array]):  # tuples, as these go through jax's functions
    """What the sampler reads of each sample."""

    tokens: Array  # int32 [S] token whose logits are sampled
    slots: Array  # int32 [S] slot that keeps the sampled token; -1: padding
    has_bias: Array  # int32 [S] 1: the slot's bias counts
    top_k: Array  # int32 [S] 0: all
    temperature: Array  # float32 [S] 0: greedy
    top_p: Array  # float32 [S]
    min_p: Array  # float32 [S]
    presence_penalty: Array  # float32 [S]
    frequency_penalty: Array  # float32 [S]
    repetition_penalty: Array  # float32 [S]
    uniform: Array  # float32 [S] the draw, in [0, 1)


class StepArrays(NamedTuple, Generic[Array]):
    """A step."""

    token_ids: Array  # int32 [T] 0 where the token is read from a slot
    token_slots: Array  # int32 [T] slot whose last sampled token to read; -1: take token_ids
    kv_slots: Array  # int32 [T] block * block_size + offset, where the token's KV is written
    feature_rows: Array  # int32 [T] of the feature array, in the embedding's place; -1: the embedding
    rope_positions: Array  # int32 [3, T] time, row and column, by which the rotary embedding turns; in text all are one
    visible_until: Array  # int32 [T] sees the keys before this position, where that is more than those up to itself
    row_starts: Array  # int32 [R + 1] first token of each row
    kv_lengths: Array  # int32 [R] tokens that the row's last token attends to, itself included
    block_table: Array  # int32 [R, B]
    samples: SampleArrays[Array]


_NUM_SAMPLE_FIELDS = len(SampleArrays._fields)
_FIRST_FLOAT = SampleArrays._fields.index("temperature")
_SAMPLING = slice(SampleArrays._fields.index("has_bias"), SampleArrays._fields.index("uniform"))


def num_words(shape: StepShape) -> int:
    """Size of a step's buffer, in int32 words."""
    tokens, rows, blocks, samples = shape
    return 8 * tokens + rows + 1 + rows + rows * blocks + num_sample_words(samples)


def num_sample_words(num_samples: int) -> int:
    """Of these, the last ones, which the samples take."""
    return _NUM_SAMPLE_FIELDS * num_samples


def unpack(buffer: Any, shape: StepShape, float_dtype: Any) -> StepArrays[Any]:
    """Views of a buffer; works on any array that slices, reshapes and has `view(dtype)` (numpy, torch, jax)."""
    tokens, rows, blocks, samples = shape
    by_token = buffer[: 8 * tokens].reshape(8, tokens)
    by_row = buffer[8 * tokens : len(buffer) - num_sample_words(samples)]
    return StepArrays(
        token_ids=by_token[0],
        token_slots=by_token[1],
        kv_slots=by_token[2],
        feature_rows=by_token[3],
        rope_positions=by_token[4:7],
        visible_until=by_token[7],
        row_starts=by_row[: rows + 1],
        kv_lengths=by_row[rows + 1 : 2 * rows + 1],
        block_table=by_row[2 * rows + 1 :].reshape(rows, blocks),
        samples=unpack_samples(buffer[len(buffer) - num_sample_words(samples) :], samples, float_dtype),
    )


def unpack_samples(buffer: Any, num_samples: int, float_dtype: Any) -> SampleArrays[Any]:
    """Views of the samples' words."""
    words = buffer.reshape(_NUM_SAMPLE_FIELDS, num_samples)
    floats = words[_FIRST_FLOAT:].view(float_dtype)
    return SampleArrays(*words[:_FIRST_FLOAT], *floats)


def sampling_block(buffer: np.ndarray, shape: StepShape) -> np.ndarray:
    """The part of a buffer from has_bias to repetition_penalty, int32 [8, S]."""
    words = buffer[len(buffer) - num_sample_words(shape.num_samples) :]
    return words.reshape(_NUM_SAMPLE_FIELDS, shape.num_samples)[_SAMPLING]
