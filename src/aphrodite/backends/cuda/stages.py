"""The stages that shape distributions, in plain torch, for the few rows that ask for them.

Each takes float32 logits [n, V] and the rows' parameters [n, 1], and returns logits: minus infinity for what it leaves
out; one token at least stays. `domain.prompting.samplers` says what they do and where they were defined. Of equal
logits the lower token id comes first. Sums over a vocabulary are float64's: in which order a GPU adds them makes no
difference.

Letters: S samples, n rows, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aphrodite.domain.scheduling.stage_words import by_stages, parameters_of

Parameters = Mapping[str, Tensor]

_ROWS_AT_ONCE = 32  # of large vocabularies more would need gigabytes
_MIN_TEMPERATURE = 1e-6  # greedy to all intents; logits divided by less might pass float32
_UNIT = 1e-4  # of cutoffs


@dataclass(frozen=True, slots=True)
class StageGroup:
    """Samples with the same stages."""

    stages: tuple[str, ...]
    samples: Tensor  # int64 [n]
    parameters: Parameters

    @property
    def has_mirostat(self) -> bool:
        return "mirostat" in self.stages


def groups_to_send(words: np.ndarray | None) -> list[tuple[tuple[str, ...], list[np.ndarray]]]:
    """The groups of a step's stage words int32 [S, X], each with what `receive_group` takes."""
    if words is None:
        return []
    return [(stages, [samples, words[samples]]) for stages, samples in by_stages(words).items()]


def receive_group(stages: tuple[str, ...], samples: Tensor, words: Tensor) -> StageGroup:
    """A group whose numbers have come to the device."""
    return StageGroup(stages, samples.long(), parameters_of(words, torch.float32))


def run_stages(logits: Tensor, groups: Sequence[StageGroup], bounds: Tensor) -> None:
    """Run the stages of some rows of logits [S, V], in place; `bounds` float32 [S] are Mirostat's, in bits."""
    for group in groups:
        for start in range(0, len(group.samples), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            parameters = {name: values[some] for name, values in group.parameters.items()}
            parameters["mirostat_bound"] = bounds[group.samples[some], None]
            rows = logits[group.samples[some]]
            for stage in group.stages:
                rows = _run(stage, rows, parameters)
            logits.index_copy_(0, group.samples[some], rows)


def next_bounds(logits: Tensor, tokens: Tensor, group: StageGroup, bounds: Tensor) -> Tensor:
    """Mirostat's bounds [n] of a group after tokens [S] were drawn from what its stages have left of logits [S, V]."""
    logprobs = torch.log_softmax(logits[group.samples], dim=-1)
    surprise = -logprobs.gather(1, tokens[group.samples, None]) / math.log(2)
    missed = surprise - group.parameters["mirostat_tau"]
    return bounds[group.samples] - (group.parameters["mirostat_eta"] * missed)[:, 0]


def _run(stage: str, logits: Tensor, of: Parameters) -> Tensor:
    if stage in STAGES:
        return STAGES[stage](logits, of)
    key = -logits
    if stage == "typical_p":
        key = (-torch.log_softmax(logits, dim=-1) - _entropy(logits)).abs()
    order = key.sort(dim=-1, stable=True).indices
    return torch.empty_like(logits).scatter_(1, order, ORDERED_STAGES[stage](logits.gather(1, order), of))


def _temperature(logits: Tensor, of: Parameters) -> Tensor:
    return logits / of["temperature"].clamp(min=_MIN_TEMPERATURE)


def _dynatemp(logits: Tensor, of: Parameters) -> Tensor:
    most = logits.isfinite().sum(dim=-1, keepdim=True).clamp(min=2).log()
    share = (_entropy(logits) / most).clamp(0, 1) ** of["dynatemp_exponent"]
    temperature = of["dynatemp_min"] + (of["dynatemp_max"] - of["dynatemp_min"]) * share
    return logits / temperature.clamp(min=_MIN_TEMPERATURE)


def _nsigma(logits: Tensor, of: Parameters) -> Tensor:
    finite = logits.isfinite()
    count = finite.sum(dim=-1, keepdim=True)
    known = logits.masked_fill(~finite, 0).double()
    mean = known.sum(dim=-1, keepdim=True) / count
    deviation = (((known - mean) ** 2).masked_fill(~finite, 0).sum(dim=-1, keepdim=True) / count).sqrt()
    return _keep(logits, logits >= _largest(logits) - of["nsigma"] * deviation)


def _top_a(logits: Tensor, of: Parameters) -> Tensor:
    return _at_least(logits, of["top_a"] * _largest(_probabilities(logits)) ** 2)


def _min_p(logits: Tensor, of: Parameters) -> Tensor:
    return _at_least(logits, of["min_p"] * _largest(_probabilities(logits)))


def _eta_cutoff(logits: Tensor, of: Parameters) -> Tensor:
    epsilon = of["eta_cutoff"] * _UNIT
    return _at_least(logits, torch.minimum(epsilon, epsilon.sqrt() * torch.exp(-_entropy(logits))))


def _epsilon_cutoff(logits: Tensor, of: Parameters) -> Tensor:
    return _at_least(logits, of["epsilon_cutoff"] * _UNIT)


def _smoothing(logits: Tensor, of: Parameters) -> Tensor:
    largest = _largest(logits)
    below = (logits - largest).masked_fill(~logits.isfinite(), 0)
    square, cube = (3 - of["smoothing_curve"]) / 2, (of["smoothing_curve"] - 1) / 2
    bent = largest - of["smoothing_factor"] * (square * below**2 - cube * below**3)
    return torch.where(logits.isfinite(), bent, logits)


def _xtc(logits: Tensor, of: Parameters) -> Tensor:
    probabilities = _probabilities(logits)
    choices = probabilities >= of["xtc_threshold"]
    least = torch.where(choices, probabilities, torch.inf).amin(dim=-1, keepdim=True)
    ids = torch.arange(logits.shape[-1], device=logits.device)
    stays = torch.where(choices & (probabilities == least), ids, -1).amax(dim=-1, keepdim=True)
    return _keep(logits, ~choices | (ids == stays))


def _mirostat(logits: Tensor, of: Parameters) -> Tensor:
    surprise = -torch.log_softmax(logits, dim=-1) / math.log(2)
    return _keep(logits, surprise <= torch.maximum(of["mirostat_bound"], surprise.amin(dim=-1, keepdim=True)))


STAGES: Mapping[str, Callable[[Tensor, Parameters], Tensor]] = {
    "temperature": _temperature,
    "dynatemp": _dynatemp,
    "nsigma": _nsigma,
    "top_a": _top_a,
    "min_p": _min_p,
    "eta_cutoff": _eta_cutoff,
    "epsilon_cutoff": _epsilon_cutoff,
    "smoothing": _smoothing,
    "xtc": _xtc,
    "mirostat": _mirostat,
}


# Those that follow take the logits in order: the best first, or the most typical.


def _top_k(logits: Tensor, of: Parameters) -> Tensor:
    return _keep(logits, torch.arange(logits.shape[-1], device=logits.device) < of["top_k"])


def _top_p(logits: Tensor, of: Parameters) -> Tensor:
    return _keep_mass(logits, of["top_p"])


def _tfs(logits: Tensor, of: Parameters) -> Tensor:
    curvature = _probabilities(logits).double().diff(n=2).abs()  # [n, V - 2]
    total = curvature.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    within = curvature.cumsum(dim=-1) / total <= of["tfs"]
    # A curvature belongs to the middle one of its three tokens. The first of all has none and stays, the last goes.
    first, last = torch.ones_like(within[:, :1]), torch.zeros_like(within[:, :1])
    return _keep(logits, torch.cat((first, within, last), dim=1))


def _typical_p(logits: Tensor, of: Parameters) -> Tensor:
    return _keep_mass(logits, of["typical_p"])


def _skew(logits: Tensor, of: Parameters) -> Tensor:
    probabilities = torch.softmax(logits.double(), dim=-1)
    cumulative, power = probabilities.cumsum(dim=-1), of["skew"].double().exp()
    # The logarithm of c**a - (c - p)**a, without the difference of two numbers that are nearly equal.
    rest = torch.log1p(-(probabilities / cumulative).clamp(max=1))
    return (power * cumulative.log() + torch.log(-torch.expm1(power * rest))).to(logits.dtype)


ORDERED_STAGES: Mapping[str, Callable[[Tensor, Parameters], Tensor]] = {
    "top_k": _top_k,
    "top_p": _top_p,
    "tfs": _tfs,
    "typical_p": _typical_p,
    "skew": _skew,
}


def _probabilities(logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=-1)


def _largest(values: Tensor) -> Tensor:
    return values.amax(dim=-1, keepdim=True)


def _entropy(logits: Tensor) -> Tensor:
    """In nats, [n, 1]."""
    terms: Tensor = torch.special.entr(_probabilities(logits))
    return terms.sum(dim=-1, keepdim=True, dtype=torch.float64).to(logits.dtype)


def _keep(logits: Tensor, kept: Tensor) -> Tensor:
    return logits.masked_fill(~kept, -torch.inf)


def _keep_mass(logits: Tensor, mass: Tensor) -> Tensor:
    """Keep the first tokens until they have a probability [n, 1] together, one at least."""
    probabilities = _probabilities(logits)
    kept = probabilities.cumsum(dim=-1, dtype=torch.float64) - probabilities < mass
    kept[:, 0] = True
    return _keep(logits, kept)


def _at_least(logits: Tensor, threshold: Tensor) -> Tensor:
    """Keep probabilities that reach a threshold [n, 1], and the largest in any case."""
    probabilities = _probabilities(logits)
    return _keep(logits, probabilities >= torch.minimum(threshold, _largest(probabilities)))
