"""Every weight of a model, and the checkpoint's tensors that they are made of."""

from collections.abc import Iterable, Iterator

import numpy as np

from aphrodite.domain.architectures.experts import expert_weights
from aphrodite.domain.architectures.names import canonical_name, is_unused
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.tying import EMBEDDING, HEAD
from aphrodite.domain.architectures.vision_weights import vision_weights
from aphrodite.domain.architectures.weight import Axis, Reader, Source, Weight, linear
from aphrodite.domain.errors import CheckpointError


def declare_weights(model: ModelSpec) -> tuple[Weight, ...]:
    """All weights of `model`, in the order of the forward pass."""
    weights: list[Weight] = []
    if model.vision is not None:
        weights += vision_weights(model.vision)
    return tuple(weights + _decoder_weights(model.decoder))


def assemble(model: ModelSpec, tensors: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[Weight, list[np.ndarray]]]:
    """Match a checkpoint's tensors with the weights of `model`, one weight at a time as its last source comes by.

    Yields each weight with its sources' parts in order; only sources of unfinished weights are held back, so that
    memory stays near that of the weights themselves.

    Raises CheckpointError, with the names, for a missing, left-over or duplicate tensor, or one of a wrong shape or of
    integers.
    """
    sources = {source.name: (source, weight) for weight in declare_weights(model) for source in weight.sources}
    waiting: dict[str, np.ndarray] = {}
    missing = set(sources)
    for raw_name, tensor in tensors:
        name = canonical_name(raw_name)
        if model.decoder.tied_embeddings and name in (EMBEDDING, HEAD):
            if EMBEDDING not in missing:
                continue  # the same matrix again
            name = EMBEDDING
        if name not in sources:
            if is_unused(name, model):
                continue
            raise CheckpointError(f"The checkpoint holds a tensor that the model has no place for: {raw_name}.")
        if name not in missing:
            raise CheckpointError(f"The checkpoint holds the tensor {raw_name} twice.")
        missing.remove(name)
        source, weight = sources[name]
        tensor = source.arrange(tensor)
        if tensor.shape != source.shape:
            raise CheckpointError(
                f"The tensor {raw_name} has the shape {list(tensor.shape)}, the configuration says "
                f"{list(source.shape)}."
            )
        if tensor.dtype.kind in "biu":
            raise CheckpointError(f"The tensor {raw_name} holds {tensor.dtype.name} numbers, where weights are floats.")
        waiting[name] = source.prepare(tensor)
        if all(source.name in waiting for source in weight.sources):
            yield weight, [part for source in weight.sources for part in source.split(waiting.pop(source.name))]
    if missing:
        shown = ", ".join(sorted(missing)[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CheckpointError(f"The checkpoint lacks tensors that the model needs: {shown}{more}.")


def _decoder_weights(spec: DecoderSpec) -> list[Weight]:
    hidden, queries = spec.hidden_size, spec.num_heads * spec.head_dim
    keys, inner = spec.num_kv_heads * spec.head_dim, spec.intermediate_size
    embedding = Source(EMBEDDING, (spec.vocab_size, hidden))
    weights = [Weight("embed.weight", (embedding,), ("vocab", "hidden"))]

    def norm(name: str, source: str, size: int = hidden, scale: float = 1.0, read: Reader | None = None) -> Weight:
        return Weight(name, (Source(f"{source}.weight", (size,), spec.norm_offset, scale, read),), ("hidden",))

    for i in range(spec.num_layers):
        name, source = f"layers.{i}", f"decoder.layers.{i}"
        attention, mlp = f"{source}.self_attn.", f"{source}.mlp."
        merged = {"qkv_proj": queries + 2 * keys}
        qkv = merged if spec.is_qkv_merged else {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        gate_up = {"gate_up_proj": 2 * inner} if spec.is_gate_up_merged else {"gate_proj": inner, "up_proj": inner}
        added, sandwich = spec.residual_scale, spec.sandwich_norms
        in_order = _in_order(spec.ropes[i].head_order(spec.head_dim))
        weights.append(norm(f"{name}.attention_norm", f"{source}.input_layernorm"))
        reads = {"q_proj": in_order, "k_proj": in_order, "qkv_proj": _first(queries + keys, in_order)}
        parts = {"qkv_proj": (queries, keys, keys), "gate_up_proj": (inner, inner)}
        axes: tuple[Axis, ...] = ("heads", "hidden")
        weights += linear(f"{name}.qkv", attention, qkv, hidden, spec.qkv_bias, axes, reads=reads, parts=parts)
        if spec.qk_norm:
            weights.append(norm(f"{name}.q_norm", f"{attention}q_norm", spec.head_dim, read=in_order))
            weights.append(norm(f"{name}.k_norm", f"{attention}k_norm", spec.head_dim, read=in_order))
        weights += linear(
            f"{name}.output", attention, {"o_proj": hidden}, queries, spec.output_bias, ("hidden", "heads"), added
        )
        if sandwich is not None:
            weights.append(norm(f"{name}.attention_post_norm", f"{source}.{sandwich.after_attention}"))
        before_mlp = "post_attention_layernorm" if sandwich is None else sandwich.before_mlp
        weights.append(norm(f"{name}.mlp_norm", f"{source}.{before_mlp}"))
        if (experts := spec.experts[i]) is not None:
            weights += expert_weights(experts, name, f"{source}.mlp", hidden, added)
        else:
            weights += linear(f"{name}.gate_up", mlp, gate_up, hidden, spec.mlp_bias, ("mlp", "hidden"), parts=parts)
            weights += linear(
                f"{name}.down", mlp, {"down_proj": hidden}, inner, spec.mlp_bias, ("hidden", "mlp"), added
            )
        if sandwich is not None:
            weights.append(norm(f"{name}.mlp_post_norm", f"{source}.{sandwich.after_mlp}"))
    weights.append(norm("norm", "decoder.norm", scale=spec.logits_scale))
    if not spec.tied_embeddings:
        head = Source(HEAD, (spec.vocab_size, hidden))
        weights.append(Weight("lm_head.weight", (head,), ("vocab", "hidden")))
    return weights


def _in_order(head_order: np.ndarray) -> Reader | None:
    """What brings the rows of each head into an order; None where they have it."""
    if np.array_equal(head_order, np.arange(len(head_order))):
        return None
    return lambda rows: rows.reshape(-1, len(head_order), *rows.shape[1:])[:, head_order].reshape(rows.shape)


def _first(num_rows: int, read: Reader | None) -> Reader | None:
    """What does so to the first rows, and leaves those behind them."""
    if read is None:
        return None
    return lambda rows: np.concatenate((read(rows[:num_rows]), rows[num_rows:]))
