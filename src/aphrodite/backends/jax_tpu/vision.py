"""The vision tower (CLIP, SigLIP) and LLaVA's projector, as a pure function; whole on every device.

Letters: N segments of images, P positions (patches, and the class token where there is one), E the tower's hidden size.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from aphrodite.backends.jax_tpu.activations import activation
from aphrodite.backends.jax_tpu.products import multiply
from aphrodite.backends.jax_tpu.weights import Weights
from aphrodite.domain.architectures.spec import PixelNormalization, VisionSpec

_SCORES_BYTES = 32 << 20  # a quarter of a TPU's fast memory; in HBM they would be most of what a tower moves


def encode(spec: VisionSpec, normalization: PixelNormalization, weights: Weights, patches: Array) -> Array:
    """Patches, uint8 [N, patches, patch bytes], to rows [N, image tokens, decoder hidden size]."""
    hidden = _embed(spec, normalization, weights, patches)
    states = {0: hidden}
    for index in range(spec.num_used_layers):
        hidden = _layer(spec, weights, hidden, f"vision.layers.{index}")
        states[index + 1] = hidden
    if spec.has_post_norm:
        states[spec.num_layers] = _norm(hidden, weights, "vision.post_norm", spec.norm_eps)
    features = jnp.concatenate([states[index] for index in spec.feature_layers], axis=-1)
    if spec.drop_first_token:
        features = features[:, 1:]
    if spec.projector_norm_eps is not None:
        features = _norm(features, weights, "projector.norm", spec.projector_norm_eps)
    projected = _linear(_shuffle(features, spec.pixel_shuffle), weights, "projector.linear_1")
    if spec.num_projector_layers == 1:
        return projected
    return _linear(activation(spec.projector_activation)(projected), weights, "projector.linear_2")


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
    return _norm(hidden, weights, "vision.pre_norm", spec.norm_eps) if spec.has_pre_norm else hidden


def _layer(spec: VisionSpec, weights: Weights, hidden: Array, name: str) -> Array:
    images, positions, width = hidden.shape
    qkv = _linear(_norm(hidden, weights, f"{name}.norm1", spec.norm_eps), weights, f"{name}.qkv")
    queries, keys, values = jnp.moveaxis(qkv.reshape(images, positions, 3, spec.num_heads, -1), 2, 0)
    attended = _attend(queries, keys, values).reshape(images, positions, width)
    hidden = hidden + _linear(attended, weights, f"{name}.output")
    normed = _norm(hidden, weights, f"{name}.norm2", spec.norm_eps)
    inner = activation(spec.activation)(_linear(normed, weights, f"{name}.fc1"))
    return hidden + _linear(inner, weights, f"{name}.fc2")


def _attend(queries: Array, keys: Array, values: Array) -> Array:
    """Attention among each image's positions [N, P, H, D], of as many images at once as there is fast memory for."""
    _, positions, num_heads, _ = queries.shape
    num_images = max(1, _SCORES_BYTES // (4 * num_heads * positions**2))
    attended: Array = lax.map(
        lambda image: jax.nn.dot_product_attention(*image), (queries, keys, values), batch_size=num_images
    )
    return attended


def _shuffle(features: Array, scale: int) -> Array:
    """Squares of scale * scale patches to one feature each, row by row: [N, P, E] to [N, P / scale^2, scale^2 * E]."""
    if scale == 1:
        return features
    num_segments, num_patches, width = features.shape
    side = math.isqrt(num_patches) // scale
    squares = features.reshape(num_segments, side, scale, side, scale * width).swapaxes(2, 3)
    return squares.reshape(num_segments, side * side, scale * scale * width)


def _linear(x: Array, weights: Weights, name: str) -> Array:
    product = multiply(x, weights[f"{name}.weight"])
    return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product


def _norm(x: Array, weights: Weights, name: str, epsilon: float) -> Array:
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    scaled = centred * lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return (scaled * weight.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)
