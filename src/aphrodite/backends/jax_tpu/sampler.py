"""Sampling on the device: penalties, temperature, top-k, top-p, min-p, one draw a row.

One program does it all: what no row asks for is skipped at run time. Filters only mask, and the draw is the inverse of
the cumulative distribution in the vocabulary's own order, so that a seeded request repeats its tokens in any batch.

Letters: S samples, V vocabulary, K reported candidates, W words of bits, X words of a row's stages.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from aphrodite.backends.jax_tpu.stages import next_bounds, run_stages
from aphrodite.domain.prompting.sampling_params import MAX_LOGPROBS
from aphrodite.domain.scheduling.bias import first_bias
from aphrodite.domain.scheduling.step import RowPlan
from aphrodite.domain.scheduling.step_arrays import SampleArrays

_MIN_TEMPERATURE = 1e-6  # greedy to all intents; logits divided by less might pass float32
_UNITS = 2.0**30  # of probability: whole numbers add up to the same in any order, floats do not


class SlotState(NamedTuple):
    """What the device remembers of each slot; one more slot than requests, for the padding."""

    last_tokens: Array  # int32 [slots]
    seen: Array  # int32 [slots, V] twice the times a token was generated, plus one where the prompt has it
    bias: Array  # float32 [slots, V]
    mirostat_bounds: Array  # float32 [slots] bits


def start_slot(state: SlotState, slot: Array, seen: Array, bias: Array, mirostat_bound: Array) -> SlotState:
    """Set a slot up for a request that begins to sample: `seen` int32 [V] and `bias` float32 [V] as in SlotState."""
    return SlotState(
        state.last_tokens,
        state.seen.at[slot].set(seen),
        state.bias.at[slot].set(bias),
        state.mirostat_bounds.at[slot].set(mirostat_bound),
    )


def slot_rows(row: RowPlan, vocab_size: int) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """What `start_slot` is told about a row with a slot_start: its `seen`, its `bias` and its Mirostat's bound."""
    seen = np.zeros(vocab_size, dtype=np.int32)
    if row.slot_start is not None:
        seen += 2 * np.bincount(row.slot_start.output_token_ids, minlength=vocab_size).astype(np.int32)
        seen[row.slot_start.prompt_token_ids] |= 1
    bound = 0.0 if row.slot_start is None else row.slot_start.mirostat_bound
    return seen, first_bias(row.sampling, vocab_size), np.float32(bound)


def change_bias(state: SlotState, places: Array, values: Array) -> SlotState:
    """From now on `values` [n] are added to the logits of `places` int32 [n, 2], a slot and a token id each.

    Places of a slot that there is not are none.
    """
    return state._replace(bias=state.bias.at[places[:, 0], places[:, 1]].set(values, mode="drop"))


def sample(
    logits: Array,
    arrays: SampleArrays[Array],
    held_back: Array,
    is_constrained: Array,
    allowed: Array,
    stages: Array,
    state: SlotState,
) -> tuple[Array, SlotState]:
    """Draw a token for each row of float32 logits [S, V], and keep it in its slot.

    `held_back` int32 [n, 2] holds (sample, token id) pairs that must not be drawn; sample S stands for none. Where the
    step `is_constrained`, a bool, only tokens are drawn whose bits are set in `allowed` int32 [S, W]. `stages` int32
    [S, X] are the words of rows with stages of their own, zeros elsewhere.
    Returns int32 [S] and the new state.
    """
    slots = arrays.slots  # [S], -1 for padding
    penalized = (slots >= 0) & (
        (arrays.presence_penalty != 0) | (arrays.frequency_penalty != 0) | (arrays.repetition_penalty != 1)
    )
    logits = lax.cond(
        jnp.any(arrays.has_bias > 0),
        lambda: logits + jnp.where(arrays.has_bias[:, None] > 0, state.bias[slots], 0.0),
        lambda: logits,
    )
    logits = lax.cond(
        jnp.any(penalized),
        lambda: jnp.where(penalized[:, None], _penalize(logits, arrays, state.seen[slots]), logits),
        lambda: logits,
    )
    logits = logits.at[held_back[:, 0], held_back[:, 1]].set(-jnp.inf, mode="drop")
    logits = lax.cond(is_constrained, lambda: jnp.where(_bits(allowed, logits), logits, -jnp.inf), lambda: logits)
    # Two ways, not shaped logits or the same: what a branch passes on is copied.
    bounds = state.mirostat_bounds[slots]
    tokens, bounds = lax.cond(
        jnp.any(stages[:, 0] > 0),
        lambda: _choose_shaped(logits, arrays, stages, bounds),
        lambda: (_choose(logits, arrays), bounds),
    )
    return tokens, SlotState(
        state.last_tokens.at[slots].set(tokens),
        state.seen.at[slots, tokens].add(2 * penalized.astype(jnp.int32)),
        state.bias,
        state.mirostat_bounds.at[slots].set(bounds),
    )


def report(logits: Array, chosen: Array) -> tuple[Array, Array, Array, Array]:
    """Log-probabilities of chosen tokens int32 [n] under logits [n, V], their ranks, and the K best ids and values."""
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    picked = jnp.take_along_axis(logprobs, chosen[:, None], axis=1)
    ranks = jnp.sum(logprobs > picked, axis=-1, dtype=jnp.int32) + 1
    values, token_ids = lax.top_k(logprobs, num_reported(logits.shape[-1]))
    return picked[:, 0], ranks, token_ids, values


def no_report(num_rows: int, vocab_size: int) -> tuple[Array, Array, Array, Array]:
    """What stands in the place of a report that nobody asked for."""
    count = num_reported(vocab_size)
    integers, floats = jnp.zeros((num_rows, count), jnp.int32), jnp.zeros((num_rows, count), jnp.float32)
    return floats[:, 0], integers[:, 0], integers, floats


def num_reported(vocab_size: int) -> int:
    return min(MAX_LOGPROBS, vocab_size)


def _bits(words: Array, logits: Array) -> Array:
    """The bits of int32 [S, W] as bool, as many as there are logits [S, V]."""
    bits = (words[:, :, None] >> jnp.arange(32)) & 1
    return bits.reshape(len(words), -1)[:, : logits.shape[1]] > 0


def _best(logits: Array) -> Array:
    """The first of the highest, int32 [S]; on a CPU, where argmax runs number by number, ten times as fast."""
    size = logits.shape[-1]
    ids = jnp.where(logits == jnp.max(logits, axis=-1, keepdims=True), jnp.arange(size, dtype=jnp.int32), size - 1)
    return jnp.min(ids, axis=-1)


def _penalize(logits: Array, arrays: SampleArrays[Array], seen: Array) -> Array:
    counts = seen // 2  # [S, V]
    repetition = arrays.repetition_penalty[:, None]
    repeated = jnp.where(logits > 0, logits / repetition, logits * repetition)
    logits = jnp.where(seen > 0, repeated, logits)
    logits = logits - arrays.frequency_penalty[:, None] * counts
    return logits - arrays.presence_penalty[:, None] * (counts > 0)


def _choose(logits: Array, arrays: SampleArrays[Array]) -> Array:
    best = _best(logits)
    tokens: Array = lax.cond(jnp.any(arrays.temperature > 0), lambda: _draw_rows(logits, best, arrays), lambda: best)
    return tokens


def _choose_shaped(logits: Array, arrays: SampleArrays[Array], stages: Array, bounds: Array) -> tuple[Array, Array]:
    """Tokens, and Mirostat's bounds after them."""
    shaped = run_stages(logits, stages, bounds)
    tokens = _choose(shaped, arrays)
    return tokens, next_bounds(shaped, tokens, stages, bounds)


def _draw_rows(logits: Array, best: Array, arrays: SampleArrays[Array]) -> Array:
    temperature = arrays.temperature[:, None]
    greedy = temperature == 0
    scaled = logits / jnp.where(greedy, 1.0, jnp.maximum(temperature, _MIN_TEMPERATURE))
    filtered = ~greedy[:, 0] & ((arrays.top_k > 0) | (arrays.top_p < 1) | (arrays.min_p > 0))
    scaled = lax.cond(jnp.any(filtered), lambda: _filter(scaled, arrays), lambda: scaled)
    return jnp.where(greedy[:, 0], best, _draw(scaled, arrays.uniform))


def _filter(scaled: Array, arrays: SampleArrays[Array]) -> Array:
    """Mask what top-k, then top-p, then min-p leave out: each keeps a beginning of the tokens, best first."""
    top_k, top_p, min_p = arrays.top_k[:, None], arrays.top_p[:, None], arrays.min_p[:, None]
    ordered = -jnp.sort(-scaled, axis=-1)
    ranks = jnp.arange(scaled.shape[-1])
    kept = (top_k <= 0) | (ranks < top_k)
    probabilities = jax.nn.softmax(jnp.where(kept, ordered, -jnp.inf), axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities  # probability of all that is more likely
    kept &= (top_p >= 1) | (before < top_p)
    kept &= probabilities >= min_p * probabilities[:, :1]
    num_kept = jnp.sum(kept, axis=-1, keepdims=True)
    lowest = jnp.take_along_axis(ordered, num_kept - 1, axis=-1)
    # Of equals at the edge the lower ids stay.
    room = num_kept - jnp.sum(scaled > lowest, axis=-1, keepdims=True)
    equal = scaled == lowest
    return jnp.where((scaled > lowest) | (equal & (jnp.cumsum(equal, axis=-1) <= room)), scaled, -jnp.inf)


def _draw(scaled: Array, uniform: Array) -> Array:
    """The token at which the cumulative distribution passes the draw, int32 [S]."""
    units = jnp.round(jax.nn.softmax(scaled, axis=-1) * _UNITS).astype(jnp.int32)
    cumulative = jnp.cumsum(units, axis=-1)
    total = cumulative[:, -1:]
    # Rounding must not carry a draw past the last possible token.
    drawn = jnp.minimum((uniform[:, None] * total.astype(jnp.float32)).astype(jnp.int32), total - 1)
    return jnp.sum(cumulative <= drawn, axis=-1, dtype=jnp.int32)
