"""Every weight of a model, declared once: its shape, its axes, and the checkpoint tensors it is made of.

Merged weights (queries, keys and values; gate and up) are their sources stacked along the first axis.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aphrodite.domain.architectures.names import canonical_name, is_unused
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec, VisionSpec
from aphrodite.domain.architectures.tying import EMBEDDING, HEAD
from aphrodite.domain.errors import CheckpointError

Axis = Literal["vocab", "heads", "mlp", "hidden"]
"""What an axis counts: token ids; rows of attention heads, by head; inner units of the MLP; all that is never split."""


@dataclass(frozen=True, slots=True)
class Source:
    """One tensor of the checkpoint, by its canonical name."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """One array that a backend holds."""

    name: str
    sources: tuple[Source, ...]
    axes: tuple[Axis, ...] = ()  # of the decoder's weights, one a dimension; (): a vision tower's, which is never split

    @property
    def shape(self) -> tuple[int, ...]:
        rows = sum(source.shape[0] for source in self.sources)
        return (rows, *self.sources[0].shape[1:])

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def declare_weights(model: ModelSpec) -> tuple[Weight, ...]:
    """All weights of `model`, in the order of the forward pass."""
    weights: list[Weight] = []
    if model.vision is not None:
        weights += _vision_weights(model.vision)
    return tuple(weights + _decoder_weights(model.decoder))


def assemble(model: ModelSpec, tensors: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[Weight, list[np.ndarray]]]:
    """Match a checkpoint's tensors with the weights of `model`, one weight at a time as its last source comes by.

    Yields each weight with its source arrays in order; only sources of unfinished weights are held back, so that
    memory stays near that of the weights themselves.

    Raises CheckpointError, with the names, for a missing, left-over or duplicate tensor, or one of a wrong shape or of
    integers.
    """
    owners = {source.name: weight for weight in declare_weights(model) for source in weight.sources}
    waiting: dict[str, np.ndarray] = {}
    missing = set(owners)
    for raw_name, tensor in tensors:
        name = canonical_name(raw_name)
        if model.decoder.tied_embeddings and name in (EMBEDDING, HEAD):
            if EMBEDDING not in missing:
                continue  # the same matrix again
            name = EMBEDDING
        if name not in owners:
            if is_unused(name, model):
                continue
            raise CheckpointError(f"The checkpoint holds a tensor that the model has no place for: {raw_name}.")
        if name not in missing:
            raise CheckpointError(f"The checkpoint holds the tensor {raw_name} twice.")
        missing.remove(name)
        weight = owners[name]
        expected = next(source.shape for source in weight.sources if source.name == name)
        if tensor.shape != expected:
            raise CheckpointError(
                f"The tensor {raw_name} has the shape {list(tensor.shape)}, the configuration says {list(expected)}."
            )
        if tensor.dtype.kind in "biu":
            raise CheckpointError(f"The tensor {raw_name} holds {tensor.dtype.name} numbers, where weights are floats.")
        waiting[name] = tensor
        if all(source.name in waiting for source in weight.sources):
            yield weight, [waiting.pop(source.name) for source in weight.sources]
    if missing:
        shown = ", ".join(sorted(missing)[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CheckpointError(f"The checkpoint lacks tensors that the model needs: {shown}{more}.")


def _linear(
    name: str, prefix: str, outputs: dict[str, int], num_inputs: int, bias: bool, axes: tuple[Axis, ...] = ()
) -> list[Weight]:
    """A matrix product whose output rows come from one or more checkpoint layers; `outputs` maps each to its rows."""
    weight = Weight(
        f"{name}.weight",
        tuple(Source(f"{prefix}{key}.weight", (rows, num_inputs)) for key, rows in outputs.items()),
        axes,
    )
    if not bias:
        return [weight]
    sources = tuple(Source(f"{prefix}{key}.bias", (rows,)) for key, rows in outputs.items())
    return [weight, Weight(f"{name}.bias", sources, axes[:1])]


def _vector(name: str, source: str, size: int, axes: tuple[Axis, ...] = ()) -> Weight:
    return Weight(name, (Source(source, (size,)),), axes)


def _layer_norm(name: str, source: str, size: int) -> list[Weight]:
    return [_vector(f"{name}.{part}", f"{source}.{part}", size) for part in ("weight", "bias")]


def _decoder_weights(spec: DecoderSpec) -> list[Weight]:
    hidden, queries = spec.hidden_size, spec.num_heads * spec.head_dim
    keys, inner = spec.num_kv_heads * spec.head_dim, spec.intermediate_size
    embedding = Source(EMBEDDING, (spec.vocab_size, hidden))
    weights = [Weight("embed.weight", (embedding,), ("vocab", "hidden"))]
    for i in range(spec.num_layers):
        name, source = f"layers.{i}", f"decoder.layers.{i}"
        attention, mlp = f"{source}.self_attn.", f"{source}.mlp."
        qkv = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        gate_up = {"gate_proj": inner, "up_proj": inner}
        weights.append(_vector(f"{name}.attention_norm", f"{source}.input_layernorm.weight", hidden, ("hidden",)))
        weights += _linear(f"{name}.qkv", attention, qkv, hidden, spec.qkv_bias, ("heads", "hidden"))
        if spec.qk_norm:
            weights.append(_vector(f"{name}.q_norm", f"{attention}q_norm.weight", spec.head_dim, ("hidden",)))
            weights.append(_vector(f"{name}.k_norm", f"{attention}k_norm.weight", spec.head_dim, ("hidden",)))
        weights += _linear(
            f"{name}.output", attention, {"o_proj": hidden}, queries, spec.output_bias, ("hidden", "heads")
        )
        weights.append(_vector(f"{name}.mlp_norm", f"{source}.post_attention_layernorm.weight", hidden, ("hidden",)))
        weights += _linear(f"{name}.gate_up", mlp, gate_up, hidden, spec.mlp_bias, ("mlp", "hidden"))
        weights += _linear(f"{name}.down", mlp, {"down_proj": hidden}, inner, spec.mlp_bias, ("hidden", "mlp"))
    weights.append(_vector("norm", "decoder.norm.weight", hidden, ("hidden",)))
    if not spec.tied_embeddings:
        head = Source(HEAD, (spec.vocab_size, hidden))
        weights.append(Weight("lm_head.weight", (head,), ("vocab", "hidden")))
    return weights


def _vision_weights(spec: VisionSpec) -> list[Weight]:
    hidden, inner, text = spec.hidden_size, spec.intermediate_size, spec.text_hidden_size
    patch = (hidden, 3, spec.patch_size, spec.patch_size)
    weights = [Weight("vision.patch.weight", (Source("vision.embeddings.patch_embedding.weight", patch),))]
    if spec.patch_bias:
        weights.append(_vector("vision.patch.bias", "vision.embeddings.patch_embedding.bias", hidden))
    if spec.has_class_token:
        weights.append(_vector("vision.class_embedding", "vision.embeddings.class_embedding", hidden))
    positions = Source("vision.embeddings.position_embedding.weight", (spec.num_positions, hidden))
    weights.append(Weight("vision.position", (positions,)))
    if spec.has_pre_norm:
        weights += _layer_norm("vision.pre_norm", "vision.pre_layrnorm", hidden)
    for i in range(spec.num_used_layers):
        name, source = f"vision.layers.{i}", f"vision.encoder.layers.{i}"
        qkv = {"q_proj": hidden, "k_proj": hidden, "v_proj": hidden}
        weights += _layer_norm(f"{name}.norm1", f"{source}.layer_norm1", hidden)
        weights += _linear(f"{name}.qkv", f"{source}.self_attn.", qkv, hidden, True)
        weights += _linear(f"{name}.output", f"{source}.self_attn.", {"out_proj": hidden}, hidden, True)
        weights += _layer_norm(f"{name}.norm2", f"{source}.layer_norm2", hidden)
        weights += _linear(f"{name}.fc1", f"{source}.mlp.", {"fc1": inner}, hidden, True)
        weights += _linear(f"{name}.fc2", f"{source}.mlp.", {"fc2": hidden}, inner, True)
    if spec.has_post_norm:
        weights += _layer_norm("vision.post_norm", "vision.post_layernorm", hidden)
    features = hidden * len(spec.feature_layers) * spec.pixel_shuffle**2
    if spec.projector_norm_eps is not None:
        weights += _layer_norm("projector.norm", "projector.projector_layernorm", features)
    weights += _linear("projector.linear_1", "projector.", {"linear_1": text}, features, spec.projector_bias)
    if spec.num_projector_layers == 2:
        weights += _linear("projector.linear_2", "projector.", {"linear_2": text}, text, spec.projector_bias)
    if spec.has_newline:
        weights.append(_vector("projector.newline", "image_newline", text))
    return weights
