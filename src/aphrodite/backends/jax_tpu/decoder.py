"""The text decoder: one pure interpreter for every DecoderSpec, run by each device on its part of the weights.

Letters: T tokens, S samples, E hidden size, H heads, K key/value heads, D head size, V vocabulary; H, K and V are a
device's own.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from aphrodite.backends.jax_tpu.activations import activation
from aphrodite.backends.jax_tpu.attention import AttentionInputs
from aphrodite.backends.jax_tpu.experts import run_experts
from aphrodite.backends.jax_tpu.kernels import Kernels
from aphrodite.backends.jax_tpu.products import Multiply
from aphrodite.backends.jax_tpu.rotary import QkNorm, Rotary, rms_norm
from aphrodite.backends.jax_tpu.sharding import MODEL
from aphrodite.backends.jax_tpu.weights import Weights
from aphrodite.domain.architectures.experts import ExpertsSpec
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec, RopeSpec

Cache = tuple[Array, ...]  # a layer each


def embed(spec: DecoderSpec, weights: Weights, token_ids: Array) -> Array:
    """Token ids [T] to embeddings [T, E]."""
    table = weights["embed.weight"]
    # Rounded as the embeddings are: trained with it, a model wants it so.
    scale = jnp.asarray(spec.embedding_scale, table.dtype)
    if table.shape[0] == spec.vocab_size:
        return table[token_ids] * scale
    mine = token_ids - lax.axis_index(MODEL) * table.shape[0]
    here = (mine >= 0) & (mine < table.shape[0])
    return _sum(jnp.where(here[:, None], table[jnp.where(here, mine, 0)], 0)) * scale


def logits(spec: DecoderSpec, multiply: Multiply, head: Array, hidden: Array) -> Array:
    """Hidden states [S, E] to float32 logits over the whole vocabulary, on every device."""
    mine = multiply(hidden, head).astype(jnp.float32)
    if spec.logits_softcap is not None:
        mine = spec.logits_softcap * jnp.tanh(mine / spec.logits_softcap)
    if head.shape[0] == spec.vocab_size:
        return mine
    whole: Array = lax.all_gather(mine, MODEL, axis=1, tiled=True)
    return whole


def head_of(weights: Weights) -> Array:
    """The output matrix [V, E]; tied models use their embeddings."""
    return weights.get("lm_head.weight", weights["embed.weight"])


def forward(
    spec: DecoderSpec,
    kernels: Kernels,
    weights: Weights,
    hidden: Array,
    rope_positions: Array,
    inputs: AttentionInputs,
    cache: Cache,
    deep_features: Sequence[Array],
) -> tuple[Array, Cache]:
    """Embeddings [T, E] of tokens at rotary positions [3, T] to hidden states [T, E] ready for `logits`, and the cache
    with the step's keys and values.

    `deep_features` are further levels of images' features [T, E], 0 for other tokens.
    """
    added = dict(zip(spec.deepstack_layers, deep_features, strict=True))
    rotary = {rope: _rotary(rope, spec.head_dim, rope_positions, hidden.dtype) for rope in dict.fromkeys(spec.ropes)}
    if spec.input_scale != 1:
        hidden = hidden * spec.input_scale
    written = []
    for index in range(spec.num_layers):
        # A function of its own, so that it is traced once for all layers.
        hidden, layer_cache = _layer(
            spec,
            kernels,
            spec.attention[index],
            spec.experts[index],
            _part(weights, f"layers.{index}."),
            hidden,
            rotary[spec.ropes[index]],
            inputs,
            cache[index],
        )
        if index in added:
            hidden = hidden + added[index]
        written.append(layer_cache)
    return _normed(spec, hidden, weights["norm"]), tuple(written)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _layer(
    spec: DecoderSpec,
    kernels: Kernels,
    attention: AttentionSpec,
    experts: ExpertsSpec | None,
    weights: Weights,
    hidden: Array,
    rotary: Rotary,
    inputs: AttentionInputs,
    cache: Array,
) -> tuple[Array, Array]:
    # A device's shares of heads and inner units give partial sums; biases are added once, to the whole.
    normed = _normed(spec, hidden, weights["attention_norm"])
    attended, cache = _attend(spec, kernels, attention, weights, normed, rotary, inputs, cache)
    added = _whole(kernels.multiply(attended, weights["output.weight"]), weights.get("output.bias"))
    hidden = hidden + _post_normed(spec, added, weights.get("attention_post_norm"))
    normed = _normed(spec, hidden, weights["mlp_norm"])
    if experts is None:
        gate, up = jnp.split(_linear(kernels.multiply, normed, weights, "gate_up"), 2, axis=-1)
        inner = activation(spec.activation)(gate) * up
        added = _whole(kernels.multiply(inner, weights["down.weight"]), weights.get("down.bias"))
    else:
        added = _sum(run_experts(experts, kernels.multiply, spec.activation, weights, normed))
    return hidden + _post_normed(spec, added, weights.get("mlp_post_norm")), cache


def _attend(
    spec: DecoderSpec,
    kernels: Kernels,
    attention: AttentionSpec,
    weights: Weights,
    hidden: Array,
    rotary: Rotary,
    inputs: AttentionInputs,
    cache: Array,
) -> tuple[Array, Array]:
    """Normed hidden states [T, E] to the heads' outputs [T, H * D], and the layer's cache."""
    num_tokens = hidden.shape[0]
    qkv = _linear(kernels.multiply, hidden, weights, "qkv").reshape(num_tokens, -1, spec.head_dim)  # [T, H + 2K, D]
    if rotary.query_scale is not None:
        qkv = qkv.at[:, : qkv.shape[1] - cache.shape[2]].multiply(rotary.query_scale[:, None, None])
    norm = QkNorm(weights["q_norm"], weights["k_norm"], spec.rms_norm_eps) if "q_norm" in weights else None
    queries, cache = kernels.rotate_and_store(qkv, norm, rotary, inputs.kv_slots, cache)
    attended = kernels.attend(
        queries,
        cache,
        inputs.row_starts,
        inputs.kv_lengths,
        inputs.block_table,
        attention,
        inputs.visible_until,
    )
    return attended.reshape(num_tokens, -1), cache


def _rotary(rope: RopeSpec, head_dim: int, rope_positions: Array, dtype: jnp.dtype) -> Rotary:
    positions = rope_positions[rope.axes(head_dim)] if rope.sections else rope_positions[:1]  # [D / 2 or 1, T]
    angles = positions.T.astype(jnp.float32) * jnp.asarray(rope.inverse_frequencies(head_dim))
    query_scale = None
    if rope.query_growth:
        periods = (rope_positions[0] // rope.original_max_position).astype(jnp.float32)
        query_scale = (1 + rope.query_growth * jnp.log1p(periods)).astype(dtype)
    amplitudes = jnp.asarray(rope.amplitudes(head_dim))
    cos, sin = amplitudes * jnp.cos(angles), amplitudes * jnp.sin(angles)
    return Rotary(cos.astype(dtype), sin.astype(dtype), query_scale)


def _part(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def _linear(multiply: Multiply, x: Array, weights: Weights, name: str) -> Array:
    product = multiply(x, weights[f"{name}.weight"])
    return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product


def _whole(partial_sums: Array, bias: Array | None) -> Array:
    """The sum over all devices."""
    whole = _sum(partial_sums)
    return whole if bias is None else whole + bias


def _sum(partial_sums: Array) -> Array:
    whole: Array = lax.psum(partial_sums, MODEL)
    return whole


def _normed(spec: DecoderSpec, hidden: Array, weight: Array) -> Array:
    return rms_norm(hidden, weight, spec.rms_norm_eps)


def _post_normed(spec: DecoderSpec, added: Array, weight: Array | None) -> Array:
    return added if weight is None else _normed(spec, added, weight)
