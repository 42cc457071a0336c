"""Mixtures of experts, of which each device has some.

Letters: T tokens, E hidden size, I inner units, N experts of this device, K chosen for a token of all there are.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from aphrodite.backends.jax_tpu.activations import activation
from aphrodite.backends.jax_tpu.products import Multiply
from aphrodite.backends.jax_tpu.sharding import MODEL
from aphrodite.backends.jax_tpu.weights import Weights
from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.experts import ExpertsSpec


def run_experts(spec: ExpertsSpec, multiply: Multiply, kind: Activation, weights: Weights, hidden: Array) -> Array:
    """What this device's experts add to hidden states [T, E], each times its share: a partial sum."""
    shares, chosen = _route(spec, weights, hidden)
    gate_up, down = weights["experts_gate_up"], weights["experts_down"]  # [N, E, 2I], [N, I, E]
    num_mine = len(gate_up)
    mine = chosen.reshape(-1) - lax.axis_index(MODEL) * num_mine
    mine = jnp.where((mine >= 0) & (mine < num_mine), mine, num_mine)  # others' come last
    in_order = jnp.argsort(mine, stable=True)
    tokens, mine = in_order // spec.num_chosen, mine[in_order]
    counts = jnp.bincount(mine, length=num_mine + 1)[:num_mine]

    gate, up = jnp.split(lax.ragged_dot(hidden[tokens], gate_up, counts), 2, axis=-1)
    made = lax.ragged_dot(activation(kind)(gate) * up, down, counts)
    weighted = (made * shares.reshape(-1)[in_order, None]).astype(hidden.dtype)
    added = jnp.zeros_like(hidden).at[tokens].add(jnp.where(mine[:, None] < num_mine, weighted, 0))
    return added if spec.shared is None else added + _run_shared(multiply, kind, weights, hidden)


def _run_shared(multiply: Multiply, kind: Activation, weights: Weights, hidden: Array) -> Array:
    """What this device's inner units of the shared expert add: a partial sum as well."""
    gate, up = jnp.split(multiply(hidden, weights["shared_gate_up.weight"]), 2, axis=-1)
    made = multiply(activation(kind)(gate) * up, weights["shared_down.weight"])
    share = weights.get("shared_share")
    return made if share is None else made * jax.nn.sigmoid(multiply(hidden, share))


def _route(spec: ExpertsSpec, weights: Weights, hidden: Array) -> tuple[Array, Array]:
    """Shares and numbers of the chosen ones, [T, K] each."""
    router = weights["router"]
    if spec.scores == "softmax":
        scores = jax.nn.softmax((hidden @ router.T).astype(jnp.float32), axis=-1)
    else:
        scores = jax.nn.sigmoid(hidden.astype(jnp.float32) @ router.T.astype(jnp.float32))
    _, chosen = lax.top_k(_eligible(spec, weights, scores), spec.num_chosen)
    shares = jnp.take_along_axis(scores, chosen, axis=1)
    if spec.is_renormalized:
        shares = shares / shares.sum(axis=-1, keepdims=True)
    return shares * spec.scale, chosen


def _eligible(spec: ExpertsSpec, weights: Weights, scores: Array) -> Array:
    """What is chosen by, of scores [T, N of all devices]: corrected, and -inf outside of the best groups."""
    if spec.has_correction:
        scores = scores + weights["router_correction"]
    if spec.num_groups == 1:
        return scores
    groups = scores.reshape(len(scores), spec.num_groups, -1)
    _, best = lax.top_k(lax.top_k(groups, 2)[0].sum(axis=-1), spec.num_chosen_groups)  # [T, chosen]
    is_best = (best[:, :, None] == jnp.arange(spec.num_groups)).any(axis=1)
    return jnp.where(is_best[:, :, None], groups, -jnp.inf).reshape(scores.shape)
