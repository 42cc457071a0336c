"""The stages that shape a sample's distribution as int32 words, for rows that ask for more than what every step has.

A row of stages is as any other to the draw behind them: its temperature is 1 there, and nothing is filtered again.

Letters: S samples, P places in the order of stages, F their parameters, X = P + F words.
"""

from typing import Any

import numpy as np

from aphrodite.domain.prompting.samplers import STAGED, STAGES
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.draws import uniforms

NUM_STAGE_WORDS = len(STAGES) + len(STAGED)
_USUAL = ("temperature", "top_k", "top_p", "min_p")  # what every step has, in the order in which it has it
_LARGEST = float(np.finfo(np.float32).max)
_NAMES = tuple(parameter.name for parameter in STAGED)
_XTC_THRESHOLD = len(STAGES) + _NAMES.index("xtc_threshold")
_XTC_PROBABILITY = len(STAGES) + _NAMES.index("xtc_probability")


def asked_stages(sampling: SamplingParams) -> tuple[str, ...]:
    """The stages of a request, in order; none where what every step has is enough, or the likeliest token is taken."""
    stages = sampling.stages
    return () if sampling.greedy or stages == tuple(stage for stage in _USUAL if stage in stages) else stages


def stage_words(sampling: SamplingParams, stages: tuple[str, ...]) -> np.ndarray:
    """int32 [X]: numbers of stages, from 1, in their order, and zeros; then all parameters, floats bit by bit."""
    words = np.zeros(NUM_STAGE_WORDS, dtype=np.int32)
    words[: len(stages)] = [STAGES.index(stage) + 1 for stage in stages]
    values = [min(getattr(sampling, name), _LARGEST) for name in _NAMES]
    words[len(STAGES) :].view(np.float32)[:] = values
    return words


def toss(words: np.ndarray, streams: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The words int32 [S, X] of one step: where XTC's turn has not come, no token reaches its threshold.

    `streams` and `positions` are those of the samples' draws, uint64 [S].
    """
    coins = uniforms(~streams, positions)  # a stream of their own
    words = words.copy()
    thresholds = words[:, _XTC_THRESHOLD].view(np.float32)
    thresholds[coins >= words[:, _XTC_PROBABILITY].view(np.float32)] = 2.0
    return words


def by_stages(words: np.ndarray) -> dict[tuple[str, ...], np.ndarray]:
    """Which samples of int32 [S, X] have which stages, int32 [n]; those without any are left out."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for sample, numbers in enumerate(words[:, : len(STAGES)].tolist()):
        if numbers[0]:
            stages = tuple(STAGES[number - 1] for number in numbers if number)
            groups.setdefault(stages, []).append(sample)
    return {stages: np.array(samples, dtype=np.int32) for stages, samples in groups.items()}


def numbers_of(words: Any) -> Any:
    """Of int32 [S, X] the stages' numbers, int32 [S, P]."""
    return words[:, : len(STAGES)]


def parameters_of(words: Any, float_dtype: Any) -> dict[str, Any]:
    """Of int32 [S, X] the parameters by their names, float32 [S, 1]; works on arrays of numpy, torch and jax."""
    floats = words[:, len(STAGES) :].view(float_dtype)
    return {name: floats[:, index : index + 1] for index, name in enumerate(_NAMES)}
