"""The text decoder: one pure interpreter for every DecoderSpec, run by each device on its part of the weights.

Letters: T tokens, S samples, E hidden size, H heads, K key/value heads, D head size, V vocabulary; H, K and V are a
device's own.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from aphrodite.backends.jax_tpu.activations import activation
from aphrodite.backends.jax_tpu.attention import Attend, AttentionInputs, write
from aphrodite.backends.jax_tpu.sharding import MODEL
from aphrodite.backends.jax_tpu.weights import Weights
from aphrodite.domain.architectures.spec import DecoderSpec

Cache = tuple[Array, ...]  # a layer each


def embed(spec: DecoderSpec, weights: Weights, token_ids: Array) -> Array:
    """Token ids [T] to embeddings [T, E]."""
    table = weights["embed.weight"]
    if table.shape[0] == spec.vocab_size:
        return table[token_ids]
    mine = token_ids - lax.axis_index(MODEL) * table.shape[0]
    here = (mine >= 0) & (mine < table.shape[0])
    return _sum(jnp.where(here[:, None], table[jnp.where(here, mine, 0)], 0))


def logits(spec: DecoderSpec, head: Array, hidden: Array) -> Array:
    """Hidden states [S, E] to float32 logits over the whole vocabulary, on every device."""
    mine = lax.dot_general(hidden, head, (((1,), (1,)), ((), ()))).astype(jnp.float32)
    if head.shape[0] == spec.vocab_size:
        return mine
    whole: Array = lax.all_gather(mine, MODEL, axis=1, tiled=True)
    return whole


def head_of(weights: Weights) -> Array:
    """The output matrix [V, E]; tied models use their embeddings."""
    return weights.get("lm_head.weight", weights["embed.weight"])


def forward(
    spec: DecoderSpec,
    attend: Attend,
    weights: Weights,
    hidden: Array,
    positions: Array,
    inputs: AttentionInputs,
    cache: Cache,
) -> tuple[Array, Cache]:
    """Embeddings [T, E] to hidden states [T, E] ready for `logits`, and the cache with the step's keys and values."""
    frequencies = jnp.asarray(spec.rope.inverse_frequencies(spec.head_dim))
    angles = positions[:, None].astype(jnp.float32) * frequencies
    cos, sin = (wave(angles).astype(hidden.dtype)[:, None] for wave in (jnp.cos, jnp.sin))  # [T, 1, D / 2]
    written = []
    for index in range(spec.num_layers):
        # A function of its own, so that it is traced once for all layers.
        hidden, layer_cache = _layer(
            spec,
            attend,
            spec.windows[index],
            _part(weights, f"layers.{index}."),
            hidden,
            cos,
            sin,
            inputs,
            cache[index],
        )
        written.append(layer_cache)
    return _normed(spec, hidden, weights["norm"]), tuple(written)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _layer(
    spec: DecoderSpec,
    attend: Attend,
    window: int | None,
    weights: Weights,
    hidden: Array,
    cos: Array,
    sin: Array,
    inputs: AttentionInputs,
    cache: Array,
) -> tuple[Array, Array]:
    # A device's shares of heads and inner units give partial sums; biases are added once, to the whole.
    attended, cache = _attend(
        spec, attend, window, weights, _normed(spec, hidden, weights["attention_norm"]), cos, sin, inputs, cache
    )
    hidden = hidden + _whole(_product(attended, weights["output.weight"]), weights.get("output.bias"))
    gate, up = jnp.split(_linear(_normed(spec, hidden, weights["mlp_norm"]), weights, "gate_up"), 2, axis=-1)
    inner = activation(spec.activation)(gate) * up
    return hidden + _whole(_product(inner, weights["down.weight"]), weights.get("down.bias")), cache


def _attend(
    spec: DecoderSpec,
    attend: Attend,
    window: int | None,
    weights: Weights,
    hidden: Array,
    cos: Array,
    sin: Array,
    inputs: AttentionInputs,
    cache: Array,
) -> tuple[Array, Array]:
    """Normed hidden states [T, E] to the heads' outputs [T, H * D], and the layer's cache."""
    num_tokens, head_dim = hidden.shape[0], spec.head_dim
    qkv = _linear(hidden, weights, "qkv").reshape(num_tokens, -1, head_dim)  # [T, H + 2K, D]
    kv_heads = qkv.shape[1] * spec.num_kv_heads // (spec.num_heads + 2 * spec.num_kv_heads)
    queries, keys, values = jnp.split(qkv, (qkv.shape[1] - 2 * kv_heads, qkv.shape[1] - kv_heads), axis=1)
    if "q_norm" in weights:
        queries = _normed(spec, queries, weights["q_norm"])
        keys = _normed(spec, keys, weights["k_norm"])
    cache = write(cache, inputs.kv_slots, _rotate(keys, cos, sin), values)
    attended = attend(
        _rotate(queries, cos, sin), cache, inputs.row_starts, inputs.kv_lengths, inputs.block_table, window
    )
    return attended.reshape(num_tokens, -1), cache


def _part(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def _product(x: Array, weight: Array) -> Array:
    """x [T, in] times a weight [in, out]."""
    return lax.dot_general(x, weight, (((1,), (0,)), ((), ())))


def _linear(x: Array, weights: Weights, name: str) -> Array:
    product = _product(x, weights[f"{name}.weight"])
    return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product


def _whole(partial_sums: Array, bias: Array | None) -> Array:
    """The sum over all devices."""
    whole = _sum(partial_sums)
    return whole if bias is None else whole + bias


def _sum(partial_sums: Array) -> Array:
    whole: Array = lax.psum(partial_sums, MODEL)
    return whole


def _normed(spec: DecoderSpec, hidden: Array, weight: Array) -> Array:
    wide = hidden.astype(jnp.float32)
    scale = lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + spec.rms_norm_eps)
    return (wide * scale * weight.astype(jnp.float32)).astype(hidden.dtype)


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotary positions on x [T, heads, D]: the pair of dimension i is i + D / 2, as Hugging Face lays weights out."""
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)
