"""The stages of sampling in plain numpy, one row at a time, each from its published definition.

Every one takes scores, float64 [V], minus infinity for what is out, and a request's parameters, and returns scores.
"""

import math
from collections.abc import Callable

import numpy as np

from aphrodite.domain.prompting.sampling_params import SamplingParams

Oracle = Callable[[np.ndarray, SamplingParams], np.ndarray]


def shares(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def entropy(scores: np.ndarray) -> float:
    return -sum(p * math.log(p) for p in shares(scores) if p > 0)


def best_first(scores: np.ndarray) -> list[int]:
    return sorted(range(len(scores)), key=lambda token_id: (-scores[token_id], token_id))


def only(scores: np.ndarray, token_ids: object) -> np.ndarray:
    kept = np.full_like(scores, -np.inf)
    for token_id in token_ids:
        kept[token_id] = scores[token_id]
    return kept


def until(scores: np.ndarray, order: list[int], mass: float) -> np.ndarray:
    """The fewest of them, in this order, that have this probability together."""
    p, total, kept = shares(scores), 0.0, []
    for token_id in order:
        kept.append(token_id)
        total += p[token_id]
        if total >= mass:
            break
    return only(scores, kept)


def at_least(scores: np.ndarray, threshold: float) -> np.ndarray:
    p = shares(scores)
    return only(scores, [i for i in range(len(p)) if p[i] >= threshold or p[i] == p.max()])


def temperature(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    return scores / params.temperature


def dynatemp(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """From the smallest temperature to the largest as the entropy goes from none to that of an even distribution."""
    possible = int(np.isfinite(scores).sum())
    share = entropy(scores) / math.log(possible) if possible > 1 else 0.0
    share = max(share, 0.0) ** params.dynatemp_exponent
    return scores / max(params.dynatemp_min + share * (params.dynatemp_max - params.dynatemp_min), 1e-6)


def nsigma(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """arXiv 2411.07641: M - n * sigma, over the logits that there are."""
    threshold = scores.max() - params.nsigma * np.std(scores[np.isfinite(scores)])
    return np.where(scores >= threshold, scores, -np.inf)


def top_k(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    return only(scores, best_first(scores)[: params.top_k])


def top_p(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    return until(scores, best_first(scores), params.top_p)


def top_a(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Limit = max(p)**2 * A."""
    return at_least(scores, params.top_a * shares(scores).max() ** 2)


def min_p(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    return at_least(scores, params.min_p * shares(scores).max())


def tfs(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """The second differences of the sorted probabilities, as shares of their sum; each is its middle token's."""
    order = best_first(scores)
    p = shares(scores)[order]
    second = [abs(p[i] - 2 * p[i + 1] + p[i + 2]) for i in range(len(p) - 2)]
    kept, total = [order[0]], 0.0
    for middle, curvature in zip(order[1:-1], second, strict=True):
        total += curvature / max(sum(second), 1e-300)
        if total > params.tfs:
            break
        kept.append(middle)
    return only(scores, kept)


def eta_cutoff(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """arXiv 2210.15191: eta = min(epsilon, sqrt(epsilon) * exp(-entropy))."""
    epsilon = params.eta_cutoff * 1e-4
    return at_least(scores, min(epsilon, math.sqrt(epsilon) * math.exp(-entropy(scores))))


def epsilon_cutoff(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    return at_least(scores, params.epsilon_cutoff * 1e-4)


def typical_p(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """arXiv 2202.00666: those whose information content is nearest to the entropy."""
    p, expected = shares(scores), entropy(scores)
    distance = [abs(-math.log(each) - expected) if each > 0 else math.inf for each in p]
    return until(scores, sorted(range(len(p)), key=lambda token_id: (distance[token_id], token_id)), params.typical_p)


def smoothing(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """With h the largest logit and d = x - h: h - factor * (k * d**2 - s * d**3), k = (3 - curve) / 2, s = 1 - k."""
    largest, k = scores.max(), (3 - params.smoothing_curve) / 2
    bent = [
        largest - params.smoothing_factor * (k * (x - largest) ** 2 - (1 - k) * (x - largest) ** 3)
        if math.isfinite(x)
        else x
        for x in scores
    ]
    return np.array(bent)


def xtc(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Of the tokens that reach the threshold all but the least likely go; a draw in whose turn it comes."""
    p = shares(scores)
    choices = [token_id for token_id in best_first(scores) if p[token_id] >= params.xtc_threshold]
    return only(scores, set(range(len(p))) - set(choices[:-1]))


def skew(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """A draw u goes through the sorted probabilities as u**exp(-skew)."""
    order = best_first(scores)
    edges = np.concatenate(([0.0], np.minimum(np.cumsum(shares(scores)[order].astype(np.longdouble)), 1)))
    weights = np.diff(edges.astype(np.longdouble) ** math.exp(params.skew))
    result = np.full_like(scores, -np.inf)
    with np.errstate(divide="ignore"):
        result[order] = np.log(weights)
    return result


ORACLES: dict[str, Oracle] = {
    oracle.__name__: oracle
    for oracle in (
        temperature, dynatemp, nsigma, top_k, top_p, top_a, min_p, tfs, eta_cutoff, epsilon_cutoff, typical_p,
        smoothing, xtc, skew,
    )
}  # fmt: skip
