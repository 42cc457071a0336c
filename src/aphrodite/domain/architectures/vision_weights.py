"""The weights of a vision tower and its projector, in the order of the forward pass."""

import math
from functools import partial

import numpy as np

from aphrodite.domain.architectures.vision_spec import Normalize, NormKind, Project, VisionSpec
from aphrodite.domain.architectures.weight import Source, Weight, linear, vector


def vision_weights(spec: VisionSpec) -> list[Weight]:
    """Of the layers that are run."""
    weights = _embedding_weights(spec)
    for index in range(spec.num_used_layers):
        weights += _layer_weights(spec, index)
    if spec.has_post_norm:
        weights += _norm("vision.post_norm", "vision.post_layernorm", spec.hidden_size, "layer")
    for step in spec.projector_steps:
        if isinstance(step, Normalize):
            weights += _norm(f"projector.{step.name}", f"projector.{step.name}", step.width, step.kind, step.offset)
        elif isinstance(step, Project):
            weights += _projection(step)
    if spec.has_newline:
        weights.append(vector("projector.newline", "image_newline", spec.output_size))
    return weights


def _embedding_weights(spec: VisionSpec) -> list[Weight]:
    hidden = spec.hidden_size
    patch = (hidden, 3, spec.patch_size, spec.patch_size)
    source = Source("vision.embeddings.patch_embedding.weight", patch)
    if spec.patch_depth > 1:
        source = Source(
            source.name, (hidden, 3, spec.patch_depth, *patch[2:]), read=_summed_over_time, held_shape=patch
        )
    weights = [Weight("vision.patch.weight", (source,))]
    if spec.patch_bias:
        weights.append(vector("vision.patch.bias", "vision.embeddings.patch_embedding.bias", hidden))
    if spec.has_class_token:
        weights.append(vector("vision.class_embedding", "vision.embeddings.class_embedding", hidden))
    if spec.has_patch_norm:
        weights += _norm("vision.patch_norm", "vision.patch_norm", hidden, spec.norm)
    if spec.has_position_table:
        positions = Source("vision.embeddings.position_embedding.weight", (spec.num_positions, hidden))
        weights.append(Weight("vision.position", (positions,)))
    if spec.has_pre_norm:
        weights += _norm("vision.pre_norm", "vision.pre_layrnorm", hidden, spec.norm)
    return weights


def _layer_weights(spec: VisionSpec, index: int) -> list[Weight]:
    name, source = f"vision.layers.{index}", f"vision.encoder.layers.{index}"
    attention, mlp, hidden, inner = f"{source}.self_attn.", f"{source}.mlp.", spec.hidden_size, spec.intermediate_size
    qkv = {"qkv": 3 * hidden} if spec.is_qkv_merged else {"q_proj": hidden, "k_proj": hidden, "v_proj": hidden}
    weights = _norm(f"{name}.norm1", f"{source}.layer_norm1", hidden, spec.norm)
    weights += linear(f"{name}.qkv", attention, qkv, hidden, spec.qkv_bias)
    if spec.qk_norm is not None:
        size = spec.qk_norm.size
        weights += [vector(f"{name}.{part}", f"{attention}{part}.weight", size) for part in ("q_norm", "k_norm")]
    weights += linear(f"{name}.output", attention, {"out_proj": hidden}, hidden, spec.output_bias)
    weights += _norm(f"{name}.norm2", f"{source}.layer_norm2", hidden, spec.norm)
    into = {"gate_proj": inner, "up_proj": inner} if spec.is_gated else {"fc1": inner}
    weights += linear(f"{name}.fc1", mlp, into, hidden, spec.mlp_bias)
    out_of = {"down_proj" if spec.is_gated else "fc2": hidden}
    weights += linear(f"{name}.fc2", mlp, out_of, inner, spec.mlp_bias)
    if spec.has_layer_scale:
        weights.append(vector(f"{name}.attention_scale", f"{source}.lambda_1", hidden))
        weights.append(vector(f"{name}.mlp_scale", f"{source}.lambda_2", hidden))
    return weights


def _projection(step: Project) -> list[Weight]:
    name = f"projector.{step.name}"
    names = step.stacked or (step.name,)
    outputs = dict.fromkeys(names, step.outputs // len(names))
    weight, *bias = linear(name, "projector.", outputs, step.inputs, step.bias)
    if step.unfolded > 1:
        read, side = partial(_patch_by_patch, num_patches=step.unfolded), math.isqrt(step.unfolded)
        shape = (step.outputs, step.inputs // step.unfolded, side, side) if step.is_convolution else weight.shape
        weight = Weight(weight.name, (Source(f"{name}.weight", shape, read=read, held_shape=weight.shape),))
    if step.is_transposed:
        source = Source(name, (step.inputs, step.outputs), read=np.transpose, held_shape=(step.outputs, step.inputs))
        weight = Weight(weight.name, (source,))
    return [weight, *bias]


def _patch_by_patch(matrix: np.ndarray, num_patches: int) -> np.ndarray:
    """Inputs that come channel by channel, each of all patches, as we have them: patch by patch."""
    outputs = len(matrix)
    by_channel = matrix.reshape(outputs, -1, num_patches)
    return np.ascontiguousarray(by_channel.swapaxes(1, 2)).reshape(outputs, -1)


def _norm(name: str, source: str, size: int, kind: NormKind, offset: float = 0.0) -> list[Weight]:
    weight = Weight(f"{name}.weight", (Source(f"{source}.weight", (size,), offset=offset),))
    return [weight, vector(f"{name}.bias", f"{source}.bias", size)] if kind == "layer" else [weight]


def _summed_over_time(patch: np.ndarray) -> np.ndarray:
    """Of a convolution over several pictures [E, 3, depth, side, side], what it does to the same one each time."""
    summed: np.ndarray = patch.astype(np.float32).sum(axis=2)
    return summed
