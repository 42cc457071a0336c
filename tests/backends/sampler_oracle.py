"""Sampling in plain numpy, one row at a time: what every backend's sampler is held to.

The order of things: logit bias and allowed tokens, penalties, suppressed tokens, what a form allows, temperature,
top-k, top-p, min-p, and a draw that is the inverse of the cumulative distribution in the vocabulary's own order. Of
equal logits the lower token id comes first.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from tests.backends.stage_oracle import ORACLES

from aphrodite.domain.prompting.samplers import STAGED
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.stage_words import asked_stages


def scores(
    logits: np.ndarray,
    params: SamplingParams,
    prompt_token_ids: list[int],
    output_token_ids: list[int],
    suppressed_token_ids: tuple[int, ...] = (),
    form: frozenset[int] | None = None,
) -> np.ndarray:
    """What a row's tokens are chosen by, float64 [V]."""
    result = logits.astype(np.float64)
    for token_id in range(len(result)):
        result[token_id] += params.logit_bias.get(token_id, 0.0)
        if params.allowed_token_ids is not None and token_id not in params.allowed_token_ids:
            result[token_id] = -np.inf
        count = output_token_ids.count(token_id)
        if count or token_id in prompt_token_ids:
            factor = params.repetition_penalty
            result[token_id] = result[token_id] / factor if result[token_id] > 0 else result[token_id] * factor
        result[token_id] -= params.frequency_penalty * count + params.presence_penalty * (count > 0)
        if token_id in suppressed_token_ids or (form is not None and token_id not in form):
            result[token_id] = -np.inf
    return result


def probabilities(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """What each token is drawn with, float64 [V]."""
    if asked_stages(params):
        for stage in params.stages:
            scores = ORACLES[stage](scores, params)
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()
    weights = np.exp((scores - scores.max()) / params.temperature)
    best_first = np.argsort(-scores, kind="stable")
    if params.top_k > 0:
        weights[best_first[params.top_k :]] = 0.0
    if params.top_p < 1.0:
        shares = weights / weights.sum()
        total = 0.0
        for token_id in best_first:
            if total >= params.top_p:
                weights[token_id] = 0.0
            total += shares[token_id]
    weights[weights < params.min_p * weights.max()] = 0.0
    return weights / weights.sum()


def draw(probabilities: np.ndarray, uniform: float) -> int:
    """The first token whose cumulative probability is above `uniform`."""
    cumulative = np.cumsum(probabilities)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))


def choose(scores: np.ndarray, params: SamplingParams, uniform: float) -> int:
    return int(np.argmax(scores)) if params.greedy else draw(probabilities(scores, params), uniform)


def is_clear(scores: np.ndarray, params: SamplingParams, uniform: float, margin: float = 1e-4) -> bool:
    """Whether rounding in float32 cannot change what is chosen: every comparison on the way has room."""
    finite = np.unique(scores[np.isfinite(scores)])
    if finite.size > 1 and np.diff(finite).min() < margin:
        return False  # nearly equal, not equal: their order is anybody's
    if params.greedy:
        return True
    if asked_stages(params):
        return _is_stable(scores, params, uniform, margin)
    unfiltered = SamplingParams(temperature=params.temperature, top_k=params.top_k)
    before_top_p = np.sort(probabilities(scores, unfiltered))[::-1]
    if params.top_p < 1.0 and np.abs(np.cumsum(before_top_p) - params.top_p).min() < margin:
        return False
    ratios = before_top_p / before_top_p[0]
    if params.min_p > 0.0 and np.abs(ratios - params.min_p).min() < margin * params.min_p:
        return False
    return bool(np.abs(np.cumsum(probabilities(scores, params))[:-1] - uniform).min(initial=1.0) > margin)


def _is_stable(scores: np.ndarray, params: SamplingParams, uniform: float, margin: float) -> bool:
    """Whether the same is chosen with every number a little smaller or larger; equal scores stay equal."""
    chosen = choose(scores, params, uniform)
    for factor in (1 - margin, 1 + margin):
        if choose(scores * factor, params, uniform) != chosen:
            return False
        if not 0 <= (nearby := uniform + factor - 1) < 1 or choose(scores, params, nearby) != chosen:
            return False
        if any(choose(scores, other, uniform) != chosen for other in _nearby(params, factor)):
            return False
    return True


def _nearby(params: SamplingParams, factor: float) -> Iterator[SamplingParams]:
    for parameter in STAGED:
        value = getattr(params, parameter.name)
        if parameter.type is float and parameter.stage in params.stages and value != parameter.default:
            high = np.inf if parameter.high is None else parameter.high
            yield replace(params, **{parameter.name: min(value * factor, high)})


class Bound:
    """Mirostat 2 (arXiv 2007.14966, and its authors' second version): one sequence's bound, in bits."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self.bits = 2 * params.mirostat_tau

    def _probabilities(self, scores: np.ndarray, factor: float = 1.0) -> np.ndarray:
        weights = np.exp((scores - scores.max()) * factor / self._params.temperature)
        shares = weights / weights.sum()
        shares[(-np.log2(shares) > self.bits * factor) & (shares < shares.max())] = 0
        return shares / shares.sum()

    def is_clear(self, scores: np.ndarray, uniform: float) -> bool:
        kinds = [(factor, uniform + factor - 1) for factor in (1 - 1e-4, 1.0, 1 + 1e-4)]
        return len({draw(self._probabilities(scores, factor), nearby) for factor, nearby in kinds}) == 1

    def choose(self, scores: np.ndarray, uniform: float) -> int:
        shares = self._probabilities(scores)
        token_id = draw(shares, uniform)
        self.bits -= self._params.mirostat_eta * (-np.log2(shares[token_id]) - self._params.mirostat_tau)
        return token_id
