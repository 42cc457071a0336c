"""What the devices do in a step: pure functions of the weights, of what came from the host and of what steps change.

Letters: T tokens, S samples, E hidden size, N segments of images, F features, K candidates, V vocabulary, W words of
bits.
"""

import jax.numpy as jnp
from jax import Array, lax

from aphrodite.backends.jax_tpu import decoder, vision
from aphrodite.backends.jax_tpu.attention import AttentionInputs
from aphrodite.backends.jax_tpu.encoder import EncoderArrays
from aphrodite.backends.jax_tpu.kernels import Kernels
from aphrodite.backends.jax_tpu.pending import pack
from aphrodite.backends.jax_tpu.products import Multiply, multiply
from aphrodite.backends.jax_tpu.sampler import SlotState, no_report, report, sample
from aphrodite.backends.jax_tpu.sharding import MODEL
from aphrodite.backends.jax_tpu.weights import Weights
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.scheduling.step_arrays import (
    SampleArrays,
    StepArrays,
    StepShape,
    num_sample_words,
    num_words,
    unpack,
    unpack_samples,
)


def forward(
    model: ModelSpec,
    kernels: Kernels,
    shape: StepShape,
    weights: Weights,
    buffer: Array,
    cache: decoder.Cache,
    features: Array,
    last_tokens: Array,
) -> tuple[Array, Array, Array, decoder.Cache]:
    """A step up to its hidden states [T, E], those that are sampled [S, E], and what the sampler must know.

    `buffer` int32 holds a FlatStep's buffer, whether any sample wants log-probabilities, and whether any is
    constrained.
    """
    words = num_words(shape)
    arrays: StepArrays[Array] = unpack(buffer[:words], shape, jnp.float32)
    feature_rows = arrays.feature_rows
    token_slots = arrays.token_slots
    token_ids = jnp.where(token_slots >= 0, last_tokens[token_slots], arrays.token_ids)
    hidden = decoder.embed(model.decoder, weights, token_ids)
    deep_features = list[Array]()
    if model.vision is not None:
        is_feature, num_levels = feature_rows[:, None] >= 0, 1 + len(model.decoder.deepstack_layers)
        placed, *deep = jnp.split(features[feature_rows], num_levels, axis=1)
        hidden = jnp.where(is_feature, placed, hidden)
        deep_features = [jnp.where(is_feature, level, 0) for level in deep]
    visible_until = arrays.visible_until if model.sees_forward is not None else None
    inputs = AttentionInputs(arrays.kv_slots, arrays.row_starts, arrays.kv_lengths, arrays.block_table, visible_until)
    hidden, cache = decoder.forward(
        model.decoder, kernels, weights, hidden, arrays.rope_positions, inputs, cache, deep_features
    )
    sampling = jnp.concatenate((buffer[words - num_sample_words(shape.num_samples) : words], buffer[words:]))
    return hidden, hidden[arrays.samples.tokens], sampling, cache


def draw(
    model: ModelSpec,
    multiply: Multiply,
    num_samples: int,
    max_samples: int,
    head: Array,
    hidden: Array,
    sampling: Array,
    held_back: Array,
    allowed: Array,
    stages: Array,
    slots: SlotState,
) -> tuple[Array, SlotState]:
    """Sampled tokens, their log-probabilities and Mirostat's bounds, packed [S, 3 + 2K + 1], and the slots' new state.

    `sampling` is as `forward` has it, `allowed` int32 [S, W] and `stages` int32 [S, X] as `sample` wants them.
    """
    whole: SampleArrays[Array] = unpack_samples(sampling[:-2], max_samples, jnp.float32)
    arrays = SampleArrays(*(array[:num_samples] for array in whole))
    logits = decoder.logits(model.decoder, multiply, head, hidden[:num_samples])
    tokens, slots = sample(logits, arrays, held_back, sampling[-1] > 0, allowed, stages, slots)
    reported = lax.cond(
        sampling[-2] > 0, lambda: report(logits, tokens), lambda: no_report(num_samples, logits.shape[-1])
    )
    bounds = slots.mirostat_bounds[arrays.slots].view(jnp.int32)
    return jnp.concatenate((pack(tokens, reported), bounds[:, None]), axis=1), slots


def rows(hidden: Array, tokens: Array) -> Array:
    """Of hidden states [T, E] those of `tokens` [n]."""
    return hidden[tokens]


def report_prompt(model: ModelSpec, head: Array, hidden: Array, chosen: Array) -> Array:
    """Log-probabilities of tokens [n] under hidden states [n, E], packed [n, 3 + 2K]."""
    return pack(chosen, report(decoder.logits(model.decoder, multiply, head, hidden), chosen))


def encode(
    model: ModelSpec,
    normalization: PixelNormalization,
    weights: Weights,
    images: EncoderArrays,
    features: Array,
) -> Array:
    """The feature array [feature rows, levels * E] with the features of images at their rows.

    Each device encodes its share of the segments, uint8 [N / devices, patches, patch bytes], and tells the others; a
    packed tower is whole on each.
    """
    assert model.vision is not None
    encoded = vision.encode(model.vision, normalization, weights, images.patches, images.places)
    if not model.vision.is_packed:
        encoded = lax.all_gather(encoded, MODEL, tiled=True)
    encoded = encoded.reshape(-1, features.shape[1])
    if model.vision.has_newline:
        encoded = jnp.concatenate((encoded, weights["projector.newline"][None]))
    if images.weights is None:
        tapped = encoded[images.taps]
    else:
        parts = zip(images.taps.T, images.weights.T, strict=True)
        tapped = sum(encoded[taps].astype(jnp.float32) * weights[:, None] for taps, weights in parts)
        tapped = tapped.astype(features.dtype)
    return features.at[images.rows].set(tapped, mode="promise_in_bounds")
