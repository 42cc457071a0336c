"""The vision tower and the projector behind it, as a pure function; whole on every device.

Letters: N segments of images, P positions (patches, and the class token where there is one), E the tower's hidden size.
A packed tower has segments of any length: there N is 1, and P are the patches of all of them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from aphrodite.backends.jax_tpu.activations import activation
from aphrodite.backends.jax_tpu.products import multiply
from aphrodite.backends.jax_tpu.range_attention import attend_within
from aphrodite.backends.jax_tpu.weights import Weights
from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.architectures.vision_spec import (
    Activate,
    Average,
    Gate,
    Merge,
    Normalize,
    NormKind,
    Project,
    ProjectorStep,
    VisionSpec,
)

_SCORES_BYTES = 32 << 20  # a quarter of a TPU's fast memory; in HBM they would be most of what a tower moves


class Places(NamedTuple):
    """Where the patches of a packed tower are; each sees a range of them, first and behind the last."""

    coordinates: Any  # int32 [P, 2] row and column
    segments: Any  # int32 [P, 2]
    windows: Any  # int32 [P, 2] the range in layers of windows
    position_taps: Any | None  # int32 [P, K], where learned positions are interpolated
    position_weights: Any | None  # float32 [P, K]


def encode(
    spec: VisionSpec, normalization: PixelNormalization, weights: Weights, patches: Array, places: Places | None = None
) -> Array:
    """Patches, uint8 [N, patches, patch bytes], to rows [N, image tokens, feature size]."""
    hidden = _embed(spec, normalization, weights, patches, places)
    angles = None
    if spec.rope is not None and places is not None:
        frequencies = spec.rope.inverse_frequencies(spec.hidden_size // spec.num_heads)  # [2, D / 4]
        angles = (places.coordinates[:, :, None] * frequencies).reshape(len(places.coordinates), -1)
    states = {0: hidden}
    for index in range(spec.num_used_layers):
        ranges = None
        if places is not None:
            ranges = places.windows if index in spec.windowed_layers else places.segments
        hidden = _layer(spec, weights, hidden, f"vision.layers.{index}", angles, ranges)
        states[index + 1] = hidden
    if spec.has_post_norm:
        states[spec.num_layers] = _norm(hidden, weights, "vision.post_norm", "layer", spec.norm_eps)
    features = jnp.concatenate([states[index] for index in spec.feature_layers], axis=-1)
    if spec.drop_first_token:
        features = features[:, 1:]
    deep = [_projected(spec, states[level.layer], level.projector, weights) for level in spec.deep_levels]
    return jnp.concatenate((_projected(spec, features, spec.projector, weights), *deep), axis=-1)


def _projected(spec: VisionSpec, features: Array, projector: tuple[ProjectorStep, ...], weights: Weights) -> Array:
    for step in projector:
        features = _project(spec, features, step, weights)
    return features


def _project(spec: VisionSpec, x: Array, step: ProjectorStep, weights: Weights) -> Array:
    match step:
        case Project():
            return _linear(x, weights, f"projector.{step.name}")
        case Normalize():
            return _norm(x, weights, f"projector.{step.name}", step.kind, step.epsilon)
        case Activate():
            return activation(step.activation)(x)
        case Gate():
            gate, up = jnp.split(x, 2, axis=-1)
            return activation(step.activation)(gate) * up
        case Merge():
            return x.reshape(1, -1, step.side**2 * x.shape[-1]) if spec.is_packed else _merge(x, step.side)
        case Average():
            squares = _merge(x, step.side).reshape(x.shape[0], -1, step.side**2, x.shape[-1])
            return squares.mean(axis=2, dtype=jnp.float32).astype(x.dtype)


def _embed(
    spec: VisionSpec, normalization: PixelNormalization, weights: Weights, patches: Array, places: Places | None
) -> Array:
    """uint8 [N, patches, patch bytes] to embeddings [N, P, E]; normalised here, so that only bytes travel."""
    patch_weight = weights["vision.patch.weight"]  # [E, 3, patch, patch]
    mean, std = (jnp.asarray(values)[:, None] for values in (normalization.mean, normalization.std))
    channels = patches.astype(jnp.float32).reshape(*patches.shape[:2], 3, -1)  # [N, patches, 3, pixels]
    normalized = ((channels * normalization.scale - mean) / std).astype(patch_weight.dtype)
    # Patches do not overlap, so the convolution is one product.
    hidden = multiply(normalized.reshape(patches.shape), patch_weight.reshape(spec.hidden_size, -1))
    if spec.patch_bias:
        hidden = hidden + weights["vision.patch.bias"]
    if spec.has_class_token:
        first = jnp.broadcast_to(weights["vision.class_embedding"], (hidden.shape[0], 1, spec.hidden_size))
        hidden = jnp.concatenate((first, hidden), axis=1)
    if spec.has_patch_norm:
        hidden = _norm(hidden, weights, "vision.patch_norm", spec.norm, spec.norm_eps)
    if spec.has_position_table:
        hidden = hidden + _positions(weights["vision.position"], places)
    return _norm(hidden, weights, "vision.pre_norm", spec.norm, spec.norm_eps) if spec.has_pre_norm else hidden


def _positions(table: Array, places: Places | None) -> Array:
    """Learned positions [P, E]: the table's own, or sums of them."""
    if places is None or places.position_taps is None or places.position_weights is None:
        return table
    pairs = zip(places.position_taps.T, places.position_weights.T, strict=True)
    summed = jnp.zeros((len(places.position_taps), table.shape[1]), jnp.float32)
    for taps, weights in pairs:
        summed += table[taps] * weights[:, None]
    return summed.astype(table.dtype)


def _layer(
    spec: VisionSpec, weights: Weights, hidden: Array, name: str, angles: Array | None, ranges: Array | None
) -> Array:
    images, positions, width = hidden.shape
    normed = _norm(hidden, weights, f"{name}.norm1", spec.norm, spec.norm_eps)
    queries, keys, values = jnp.split(_linear(normed, weights, f"{name}.qkv"), 3, axis=-1)
    if spec.qk_norm is not None:
        each = images, positions, -1, spec.qk_norm.size
        queries = _rms_norm(queries.reshape(each), weights[f"{name}.q_norm"], spec.qk_norm.epsilon)
        keys = _rms_norm(keys.reshape(each), weights[f"{name}.k_norm"], spec.qk_norm.epsilon)
    queries, keys, values = (x.reshape(images, positions, spec.num_heads, -1) for x in (queries, keys, values))
    if angles is not None:
        queries, keys = _turned(queries, angles), _turned(keys, angles)
    if ranges is None:
        attended = _attend(queries, keys, values)
    else:
        attended = attend_within(queries[0], keys[0], values[0], ranges)
    update = _linear(attended.reshape(images, positions, width), weights, f"{name}.output")
    hidden = hidden + (update * weights[f"{name}.attention_scale"] if spec.has_layer_scale else update)
    normed = _norm(hidden, weights, f"{name}.norm2", spec.norm, spec.norm_eps)
    inner = _linear(normed, weights, f"{name}.fc1")
    if spec.is_gated:
        gate, up = jnp.split(inner, 2, axis=-1)
        inner = activation(spec.activation)(gate) * up
    else:
        inner = activation(spec.activation)(inner)
    update = _linear(inner, weights, f"{name}.fc2")
    return hidden + (update * weights[f"{name}.mlp_scale"] if spec.has_layer_scale else update)


def _turned(heads: Array, angles: Array) -> Array:
    """Heads [1, P, H, D] rotated by angles [P, D / 2]."""
    first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    cosines, sines = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    turned = jnp.concatenate((first * cosines - second * sines, second * cosines + first * sines), axis=-1)
    return turned.astype(heads.dtype)


def _attend(queries: Array, keys: Array, values: Array) -> Array:
    """Attention among each image's positions [N, P, H, D]: of as many images at once as there is fast memory for, and
    where there is too little for one, of a part of its queries.
    """
    _, positions, num_heads, _ = queries.shape
    scores_bytes = 4 * num_heads * positions**2
    num_queries = -(-positions // -(-scores_bytes // _SCORES_BYTES))

    def attend_image(image: tuple[Array, Array, Array]) -> Array:
        asked, *seen = image
        if num_queries == positions:
            return jax.nn.dot_product_attention(asked, *seen)
        parts: Array = lax.map(
            lambda one: jax.nn.dot_product_attention(one[None], *seen)[0], asked, batch_size=num_queries
        )
        return parts

    num_images = max(1, _SCORES_BYTES // scores_bytes)
    attended: Array = lax.map(attend_image, (queries, keys, values), batch_size=num_images)
    return attended


def _merge(features: Array, side: int) -> Array:
    """Squares of side * side patches to one feature each, row by row: [N, P, E] to [N, P / side^2, side^2 * E]."""
    num_segments, num_patches, width = features.shape
    squares = math.isqrt(num_patches) // side  # in a row
    in_place = features.reshape(num_segments, squares, side, squares, side * width).swapaxes(2, 3)
    return in_place.reshape(num_segments, squares**2, side**2 * width)


def _linear(x: Array, weights: Weights, name: str) -> Array:
    product = multiply(x, weights[f"{name}.weight"])
    return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product


def _norm(x: Array, weights: Weights, name: str, kind: NormKind, epsilon: float) -> Array:
    weight = weights[f"{name}.weight"]
    if kind == "rms":
        return _rms_norm(x, weight, epsilon)
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    scaled = centred * lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return (scaled * weight.astype(jnp.float32) + weights[f"{name}.bias"].astype(jnp.float32)).astype(x.dtype)


def _rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    wide = x.astype(jnp.float32)
    scaled = wide * lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (scaled * weight.astype(jnp.float32)).astype(x.dtype)
