"""What a request samples with, as the int32 words that steps are put together from; floats lie in them bit by bit.

Letters: S samples, W words a sample.
"""

from dataclasses import dataclass

import numpy as np

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.draws import stream_of
from aphrodite.domain.scheduling.stage_words import NUM_STAGE_WORDS, asked_stages, stage_words

NUM_WORDS = 12 + NUM_STAGE_WORDS + NUM_STAGE_WORDS % 2  # even, as a stream takes two
STEP_WORDS = slice(0, 8)
"""Those that a step's buffer holds as they are: `SampleArrays` from has_bias to repetition_penalty."""
_FLOAT_WORDS = slice(2, 8)
_STREAM_WORDS = slice(8, 10)  # uint64
_FLAGS_WORD = 10
_NUM_LOGPROBS_WORD = 11
STAGE_WORDS = slice(12, 12 + NUM_STAGE_WORDS)
"""Those of `stage_words`; zeros where a row has no stages of its own."""
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST_TOP_P = 1e-30  # keeps the first token alone, as 0 is meant, which would keep none
_DRAWS, _FILTERS, _PENALTIES, _BIAS, _LOGPROBS, _STAGES = 1, 2, 4, 8, 16, 32  # flags


@dataclass(frozen=True, slots=True)
class SamplingNeeds:
    """What the samples of a step ask for, so that a backend leaves out what nobody needs."""

    draws: bool  # any temperature above 0
    stages: bool  # any distribution shaped by more than temperature, top_k, top_p and min_p
    filters: bool  # any of these three elsewhere
    penalties: bool
    bias: bool
    num_logprobs: int  # most candidates any row wants; -1: no log-probabilities


def sampling_words(sampling: SamplingParams, seed: int) -> np.ndarray:
    """int32 [W]."""
    words = np.zeros(NUM_WORDS, dtype=np.int32)
    words[0] = sampling.has_bias
    temperature, top_k, top_p, min_p = sampling.temperature, max(sampling.top_k, 0), sampling.top_p, sampling.min_p
    stages = asked_stages(sampling)
    if stages:
        words[STAGE_WORDS] = stage_words(sampling, stages)
        temperature, top_k, top_p, min_p = 1.0, 0, 1.0, 0.0
    words[1] = min(top_k, 2**31 - 1)  # no vocabulary is larger
    words[_FLOAT_WORDS].view(np.float32)[:] = (
        min(temperature, _LARGEST),
        max(top_p, _SMALLEST_TOP_P),
        min_p,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        sampling.repetition_penalty,
    )
    words[_STREAM_WORDS].view(np.uint64)[0] = stream_of(seed)
    is_filtered = top_k > 0 or top_p < 1.0 or min_p > 0.0
    words[_FLAGS_WORD] = (
        (0 if sampling.greedy else _DRAWS | is_filtered * _FILTERS | bool(stages) * _STAGES)
        | sampling.has_penalties * _PENALTIES
        | sampling.has_bias * _BIAS
        | (sampling.logprobs is not None) * _LOGPROBS
    )
    words[_NUM_LOGPROBS_WORD] = -1 if sampling.logprobs is None else sampling.logprobs
    return words


def streams_of(words: np.ndarray) -> np.ndarray:
    """Where the streams of int32 [S, W] begin, uint64 [S]."""
    return words.view(np.uint64)[:, _STREAM_WORDS.start // 2]


def needs_of(words: np.ndarray) -> SamplingNeeds:
    """What the samples of int32 [S, W] ask for together."""
    flags = int(np.bitwise_or.reduce(words[:, _FLAGS_WORD]))
    return SamplingNeeds(
        draws=bool(flags & _DRAWS),
        stages=bool(flags & _STAGES),
        filters=bool(flags & _FILTERS),
        penalties=bool(flags & _PENALTIES),
        bias=bool(flags & _BIAS),
        num_logprobs=int(words[:, _NUM_LOGPROBS_WORD].max()) if flags & _LOGPROBS else -1,
    )
