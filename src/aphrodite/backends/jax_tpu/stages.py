"""The stages that shape distributions, for the few rows that ask for them; all in the program of the draw.

Each takes float32 logits [n, V] and the rows' parameters [n, 1], and returns logits: minus infinity for what it leaves
out; one token at least stays. `domain.prompting.samplers` says what they do and where they were defined. Of equal
logits the lower token id comes first.

Letters: S samples, n rows, V vocabulary, P places, X words of a row's stages.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from aphrodite.domain.prompting.samplers import STAGES as NAMES
from aphrodite.domain.scheduling.stage_words import numbers_of, parameters_of

Parameters = Mapping[str, Array]

_ROWS_AT_ONCE = 32  # of large vocabularies more would need gigabytes
_MIN_TEMPERATURE = 1e-6  # greedy to all intents; logits divided by less might pass float32
_UNIT = 1e-4  # of cutoffs
_NUMBERS = {name: number for number, name in enumerate(NAMES, 1)}


def run_stages(logits: Array, words: Array, bounds: Array) -> Array:
    """Run each row's stages over its logits [S, V].

    `words` int32 [S, X] are those of `stage_words`, `bounds` float32 [S] Mirostat's, in bits.
    """
    bounds = bounds[:, None]
    num_rows = len(logits)
    if num_rows <= _ROWS_AT_ONCE or num_rows % _ROWS_AT_ONCE:
        return _run_some((logits, words, bounds))
    pieces = (array.reshape(-1, _ROWS_AT_ONCE, array.shape[1]) for array in (logits, words, bounds))
    done: Array = lax.map(_run_some, tuple(pieces))
    return done.reshape(logits.shape)


def next_bounds(logits: Array, tokens: Array, words: Array, bounds: Array) -> Array:
    """Mirostat's bounds [S] after tokens [S] were drawn from what the stages have left of logits [S, V]."""
    parameters = parameters_of(words, jnp.float32)
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    surprise = -jnp.take_along_axis(logprobs, tokens[:, None], axis=-1) / math.log(2)
    missed = surprise - parameters["mirostat_tau"]
    has_mirostat = jnp.any(numbers_of(words) == _NUMBERS["mirostat"], axis=1)
    return jnp.where(has_mirostat, bounds - (parameters["mirostat_eta"] * missed)[:, 0], bounds)


def _run_some(rows: tuple[Array, Array, Array]) -> Array:
    logits, words, bounds = rows
    numbers = numbers_of(words)  # [n, P]
    parameters = parameters_of(words, jnp.float32) | {"mirostat_bound": bounds}

    def run_place(place: Array, logits: Array) -> Array:
        asked = lax.dynamic_index_in_dim(numbers, place, axis=1)  # [n, 1]
        logits = _run_each(STAGES, asked, logits, parameters)
        is_ordered = jnp.isin(asked, jnp.array([_NUMBERS[name] for name in ORDERED_STAGES]))
        shaped: Array = lax.cond(
            jnp.any(is_ordered), lambda: _run_ordered(asked, is_ordered, logits, parameters), lambda: logits
        )
        return shaped

    num_places = jnp.max(jnp.sum(numbers > 0, axis=1))
    done: Array = lax.fori_loop(0, num_places, run_place, logits)
    return done


def _run_each(
    stages: Mapping[str, Callable[[Array, Parameters], Array]], asked: Array, logits: Array, parameters: Parameters
) -> Array:
    """Those of these stages that rows ask for by their numbers [n, 1]."""

    def run(name: str, logits: Array) -> Array:
        return jnp.where(asked == _NUMBERS[name], stages[name](logits, parameters), logits)

    for name in stages:
        logits = lax.cond(jnp.any(asked == _NUMBERS[name]), partial(run, name), lambda logits: logits, logits)
    return logits


def _run_ordered(asked: Array, is_ordered: Array, logits: Array, parameters: Parameters) -> Array:
    """All in one, as a sort takes long to compile."""
    atypical = jnp.abs(-jax.nn.log_softmax(logits, axis=-1) - _entropy(logits))
    order = jnp.argsort(jnp.where(asked == _NUMBERS["typical_p"], atypical, -logits), axis=-1, stable=True)
    ordered = _run_each(ORDERED_STAGES, asked, jnp.take_along_axis(logits, order, axis=-1), parameters)
    done = jnp.put_along_axis(logits, order, ordered, axis=-1, inplace=False)
    return jnp.where(is_ordered, done, logits)


def _temperature(logits: Array, of: Parameters) -> Array:
    return logits / jnp.maximum(of["temperature"], _MIN_TEMPERATURE)


def _dynatemp(logits: Array, of: Parameters) -> Array:
    most = jnp.log(jnp.maximum(jnp.sum(jnp.isfinite(logits), axis=-1, keepdims=True), 2))
    share = jnp.clip(_entropy(logits) / most, 0, 1) ** of["dynatemp_exponent"]
    temperature = of["dynatemp_min"] + (of["dynatemp_max"] - of["dynatemp_min"]) * share
    return logits / jnp.maximum(temperature, _MIN_TEMPERATURE)


def _nsigma(logits: Array, of: Parameters) -> Array:
    deviation = jnp.std(logits, axis=-1, keepdims=True, where=jnp.isfinite(logits))
    return _keep(logits, logits >= _largest(logits) - of["nsigma"] * deviation)


def _top_a(logits: Array, of: Parameters) -> Array:
    return _at_least(logits, of["top_a"] * _largest(_probabilities(logits)) ** 2)


def _min_p(logits: Array, of: Parameters) -> Array:
    return _at_least(logits, of["min_p"] * _largest(_probabilities(logits)))


def _eta_cutoff(logits: Array, of: Parameters) -> Array:
    epsilon = of["eta_cutoff"] * _UNIT
    return _at_least(logits, jnp.minimum(epsilon, jnp.sqrt(epsilon) * jnp.exp(-_entropy(logits))))


def _epsilon_cutoff(logits: Array, of: Parameters) -> Array:
    return _at_least(logits, of["epsilon_cutoff"] * _UNIT)


def _smoothing(logits: Array, of: Parameters) -> Array:
    largest = _largest(logits)
    below = jnp.where(jnp.isfinite(logits), logits - largest, 0)
    square, cube = (3 - of["smoothing_curve"]) / 2, (of["smoothing_curve"] - 1) / 2
    bent = largest - of["smoothing_factor"] * (square * below**2 - cube * below**3)
    return jnp.where(jnp.isfinite(logits), bent, logits)


def _xtc(logits: Array, of: Parameters) -> Array:
    probabilities = _probabilities(logits)
    choices = probabilities >= of["xtc_threshold"]
    least = jnp.min(jnp.where(choices, probabilities, jnp.inf), axis=-1, keepdims=True)
    ids = jnp.arange(logits.shape[-1])
    stays = jnp.max(jnp.where(choices & (probabilities == least), ids, -1), axis=-1, keepdims=True)
    return _keep(logits, ~choices | (ids == stays))


def _mirostat(logits: Array, of: Parameters) -> Array:
    surprise = -jax.nn.log_softmax(logits, axis=-1) / math.log(2)
    return _keep(logits, surprise <= jnp.maximum(of["mirostat_bound"], jnp.min(surprise, axis=-1, keepdims=True)))


STAGES: Mapping[str, Callable[[Array, Parameters], Array]] = {
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


def _top_k(logits: Array, of: Parameters) -> Array:
    return _keep(logits, jnp.arange(logits.shape[-1]) < of["top_k"])


def _top_p(logits: Array, of: Parameters) -> Array:
    return _keep_mass(logits, of["top_p"])


def _tfs(logits: Array, of: Parameters) -> Array:
    curvature = jnp.abs(jnp.diff(_probabilities(logits), n=2, axis=-1))  # [n, V - 2]
    total = jnp.maximum(jnp.sum(curvature, axis=-1, keepdims=True), 1e-30)
    within = jnp.cumsum(curvature, axis=-1) / total <= of["tfs"]
    # A curvature belongs to the middle one of its three tokens. The first of all has none and stays, the last goes.
    first, last = jnp.ones((len(logits), 1), bool), jnp.zeros((len(logits), 1), bool)
    return _keep(logits, jnp.concatenate((first, within, last), axis=1))


def _typical_p(logits: Array, of: Parameters) -> Array:
    return _keep_mass(logits, of["typical_p"])


def _skew(logits: Array, of: Parameters) -> Array:
    probabilities = _probabilities(logits)
    cumulative, power = jnp.cumsum(probabilities, axis=-1), jnp.exp(of["skew"])
    # The logarithm of c**a - (c - p)**a, without the difference of two numbers that are nearly equal.
    rest = jnp.log1p(-jnp.minimum(probabilities / cumulative, 1))
    return power * jnp.log(cumulative) + jnp.log(-jnp.expm1(power * rest))


ORDERED_STAGES: Mapping[str, Callable[[Array, Parameters], Array]] = {
    "top_k": _top_k,
    "top_p": _top_p,
    "tfs": _tfs,
    "typical_p": _typical_p,
    "skew": _skew,
}


def _probabilities(logits: Array) -> Array:
    return jax.nn.softmax(logits, axis=-1)


def _largest(values: Array) -> Array:
    return jnp.max(values, axis=-1, keepdims=True)


def _entropy(logits: Array) -> Array:
    """In nats, [n, 1]."""
    return jnp.sum(jax.scipy.special.entr(_probabilities(logits)), axis=-1, keepdims=True)


def _keep(logits: Array, kept: Array) -> Array:
    return jnp.where(kept, logits, -jnp.inf)


def _keep_mass(logits: Array, mass: Array) -> Array:
    """Keep the first tokens until they have a probability [n, 1] together, one at least."""
    probabilities = _probabilities(logits)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    return _keep(logits, (before < mass) | (jnp.arange(logits.shape[-1]) == 0))


def _at_least(logits: Array, threshold: Array) -> Array:
    """Keep probabilities that reach a threshold [n, 1], and the largest in any case."""
    probabilities = _probabilities(logits)
    return _keep(logits, probabilities >= jnp.minimum(threshold, _largest(probabilities)))
