"""What a request samples with, as the int32 words that steps are put together from; floats lie in them bit by bit.

Letters: S samples, W words a sample.
"""

from dataclasses import dataclass

import numpy as np

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.draws import stream_of

NUM_WORDS = 12
STEP_WORDS = slice(0, 8)
"""Those that a step's buffer holds as they are: `SampleArrays` from has_bias to repetition_penalty."""
_FLOAT_WORDS = slice(2, 8)
_STREAM_WORDS = slice(8, 10)  # uint64
_FLAGS_WORD = 10
_NUM_LOGPROBS_WORD = 11
_SMALLEST_TOP_P = 1e-30  # keeps the first token alone, as 0 is meant, which would keep none
_DRAWS, _FILTERS, _PENALTIES, _BIAS, _LOGPROBS = 1, 2, 4, 8, 16  # flags


@dataclass(frozen=True, slots=True)
class SamplingNeeds:
    """What the samples of a step ask for, so that a backend leaves out what nobody needs."""

    draws: bool  # any temperature above 0
    filters: bool  # any top_k, top_p or min_p
    penalties: bool
    bias: bool
    num_logprobs: int  # most candidates any row wants; -1: no log-probabilities


def sampling_words(sampling: SamplingParams, seed: int) -> np.ndarray:
    """int32 [W]."""
    words = np.empty(NUM_WORDS, dtype=np.int32)
    words[0] = sampling.has_bias
    words[1] = min(max(sampling.top_k, 0), 2**31 - 1)  # no vocabulary is larger
    words[_FLOAT_WORDS].view(np.float32)[:] = (
        sampling.temperature,
        max(sampling.top_p, _SMALLEST_TOP_P),
        sampling.min_p,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        sampling.repetition_penalty,
    )
    words[_STREAM_WORDS].view(np.uint64)[0] = stream_of(seed)
    is_filtered = sampling.top_k > 0 or sampling.top_p < 1.0 or sampling.min_p > 0.0
    words[_FLAGS_WORD] = (
        (0 if sampling.greedy else _DRAWS | is_filtered * _FILTERS)
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
        filters=bool(flags & _FILTERS),
        penalties=bool(flags & _PENALTIES),
        bias=bool(flags & _BIAS),
        num_logprobs=int(words[:, _NUM_LOGPROBS_WORD].max()) if flags & _LOGPROBS else -1,
    )
