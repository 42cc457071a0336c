"""The vision tower (CLIP, SigLIP, InternViT) and the projector behind it, as a pure function; whole on every device.

Letters: N segments of images, P positions (patches, and the class token where there is one), E the tower's hidden size.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from aphrodite.backends.jax_tpu.activations import activation
from aphrodite.backends.jax_tpu.products import multiply
from aphrodite.backends.jax_tpu.weights import Weights
from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.architectures.vision_spec import (
    QK_NORM_EPS,
    Activate,
    Merge,
    Normalize,
    NormKind,
    Project,
    ProjectorStep,
    VisionSpec,
)

_SCORES_BYTES = 32 << 20  # a quarter of a TPU's fast memory; in HBM they would be most of what a tower moves


def encode(spec: VisionSpec, normalization: PixelNormalization, weights: Weights, patches: Array) -> Array:
    """Patches, uint8 [N, patches, patch bytes], to rows [N, image tokens, decoder hidden size]."""
    hidden = _embed(spec, normalization, weights, patches)
    states = {0: hidden}
    for index in range(spec.num_used_layers):
        hidden = _layer(spec, weights, hidden, f"vision.layers.{index}")
        states[index + 1] = hidden
    if spec.has_post_norm:
        states[spec.num_layers] = _norm(hidden, weights, "vision.post_norm", "layer", spec.norm_eps)
    features = jnp.concatenate([states[index] for index in spec.feature_layers], axis=-1)
    if spec.drop_first_token:
        features = features[:, 1:]
    for step in spec.projector:
        features = _project(features, step, weights)
    return features


def _project(x: Array, step: ProjectorStep, weights: Weights) -> Array:
    match step:
        case Project():
            return _linear(x, weights, f"projector.{step.name}")
        case Normalize():
            return _norm(x, weights, f"projector.{step.name}", step.kind, step.epsilon)
        case Activate():
            return activation(step.activation)(x)
        case Merge():
            return _merge(x, step.side)


def _embed(spec: VisionSpec, normalization: PixelNormalization, weights: Weights, patches: Array) -> Array:
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
    hidden = hidden + weights["vision.position"]
    return _norm(hidden, weights, "vision.pre_norm", spec.norm, spec.norm_eps) if spec.has_pre_norm else hidden


def _layer(spec: VisionSpec, weights: Weights, hidden: Array, name: str) -> Array:
    images, positions, width = hidden.shape
    normed = _norm(hidden, weights, f"{name}.norm1", spec.norm, spec.norm_eps)
    queries, keys, values = jnp.split(_linear(normed, weights, f"{name}.qkv"), 3, axis=-1)
    if spec.qk_norm:
        queries = _rms_norm(queries, weights[f"{name}.q_norm"], QK_NORM_EPS)
        keys = _rms_norm(keys, weights[f"{name}.k_norm"], QK_NORM_EPS)
    heads = (images, positions, spec.num_heads, -1)
    attended = _attend(queries.reshape(heads), keys.reshape(heads), values.reshape(heads))
    update = _linear(attended.reshape(images, positions, width), weights, f"{name}.output")
    hidden = hidden + (update * weights[f"{name}.attention_scale"] if spec.has_layer_scale else update)
    normed = _norm(hidden, weights, f"{name}.norm2", spec.norm, spec.norm_eps)
    update = _linear(activation(spec.activation)(_linear(normed, weights, f"{name}.fc1")), weights, f"{name}.fc2")
    return hidden + (update * weights[f"{name}.mlp_scale"] if spec.has_layer_scale else update)


def _attend(queries: Array, keys: Array, values: Array) -> Array:
    """Attention among each image's positions [N, P, H, D], of as many images at once as there is fast memory for."""
    _, positions, num_heads, _ = queries.shape
    num_images = max(1, _SCORES_BYTES // (4 * num_heads * positions**2))
    attended: Array = lax.map(
        lambda image: jax.nn.dot_product_attention(*image), (queries, keys, values), batch_size=num_images
    )
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
