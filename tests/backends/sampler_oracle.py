"""Sampling in plain numpy, one row at a time: what every backend's sampler is held to.

The order of things: logit bias and allowed tokens, penalties, suppressed tokens, what a form allows, temperature,
top-k, top-p, min-p, and a draw that is the inverse of the cumulative distribution in the vocabulary's own order. Of
equal logits the lower token id comes first.
"""

import numpy as np

from aphrodite.domain.prompting.sampling_params import SamplingParams


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
    unfiltered = SamplingParams(temperature=params.temperature, top_k=params.top_k)
    before_top_p = np.sort(probabilities(scores, unfiltered))[::-1]
    if params.top_p < 1.0 and np.abs(np.cumsum(before_top_p) - params.top_p).min() < margin:
        return False
    ratios = before_top_p / before_top_p[0]
    if params.min_p > 0.0 and np.abs(ratios - params.min_p).min() < margin * params.min_p:
        return False
    return bool(np.abs(np.cumsum(probabilities(scores, params))[:-1] - uniform).min(initial=1.0) > margin)
