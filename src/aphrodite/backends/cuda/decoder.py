"""The text decoder: one interpreter for every DecoderSpec.

Letters: T tokens, S samples, E hidden size, H heads, K key/value heads, D head size, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding

from aphrodite.backends.cuda.experts import Experts, Mlp
from aphrodite.backends.cuda.linear import Linear, linear
from aphrodite.backends.cuda.operations import QkNorm, StepOperations
from aphrodite.domain.architectures.experts import ExpertsSpec, expert_weights
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor  # [E]
    qkv: Linear  # [T, E] -> [T, (H + 2K) * D]
    qk_norm: QkNorm | None
    attention: AttentionSpec
    output: Linear  # [T, H * D] -> [T, E]
    attention_post_norm: Tensor | None  # [E]
    mlp_norm: Tensor  # [E]
    mlp: Mlp | Experts
    mlp_post_norm: Tensor | None  # [E]


class Decoder:
    """Token embeddings to logits, over a paged KV cache."""

    def __init__(self, spec: DecoderSpec, weights: dict[str, Tensor]) -> None:
        """Takes its matrices out of `weights`, so that none is kept beside its packed copy."""
        self._head_dim = spec.head_dim
        self._embed = weights["embed.weight"]  # [V, E]
        self._head = linear(weights.pop("lm_head.weight", self._embed), None)  # [S, E] -> [S, V]
        self._norm = weights["norm"]  # [E]
        self._layers = [_layer(weights, spec, index) for index in range(spec.num_layers)]
        # Rounded as the embeddings are: trained with it, a model wants it so.
        self._embedding_scale = torch.tensor(spec.embedding_scale, dtype=self._embed.dtype).item()
        self._input_scale, self._logits_softcap = spec.input_scale, spec.logits_softcap
        self._deepstack_layers = spec.deepstack_layers

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token ids [T] to embeddings [T, E]."""
        embedded = embedding(token_ids, self._embed)
        return embedded if self._embedding_scale == 1 else embedded.mul_(self._embedding_scale)

    def forward(self, residual: Tensor, step: StepOperations, deep_features: Sequence[Tensor] = ()) -> Tensor:
        """Embeddings [T, E], which are overwritten, to hidden states [T, E] ready for `logits`; fills the KV cache.

        `deep_features` are further levels of images' features [T, E], 0 for other tokens; none in a step without.
        """
        added = dict(zip(self._deepstack_layers, deep_features, strict=True)) if deep_features else {}
        if self._input_scale != 1:
            residual *= self._input_scale
        x: Tensor | None = None
        for index, layer in enumerate(self._layers):
            x = self._attend(index, layer, step.add_rms_norm(residual, x, layer.attention_norm), step)
            if layer.attention_post_norm is not None:
                x = step.add_rms_norm(x, None, layer.attention_post_norm)
            x = layer.mlp(step.add_rms_norm(residual, x, layer.mlp_norm), step.gate)
            if layer.mlp_post_norm is not None:
                x = step.add_rms_norm(x, None, layer.mlp_post_norm)
            if index in added:
                residual += added[index]
        return step.add_rms_norm(residual, x, self._norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [S, E] to float32 logits [S, V]."""
        logits = self._head(hidden).float()
        if self._logits_softcap is not None:
            logits.div_(self._logits_softcap).tanh_().mul_(self._logits_softcap)
        return logits

    def _attend(self, index: int, layer: _Layer, hidden: Tensor, step: StepOperations) -> Tensor:
        qkv = layer.qkv(hidden).view(len(hidden), -1, self._head_dim)  # [T, H + 2K, D]
        queries = step.rotate_and_store(index, qkv, layer.qk_norm)
        attended = step.attend(index, queries, layer.attention)
        return layer.output(attended.flatten(1))


def _layer(weights: dict[str, Tensor], spec: DecoderSpec, index: int) -> _Layer:
    name, experts = f"layers.{index}", spec.experts[index]

    def product(part: str) -> Linear:
        return linear(weights.pop(f"{name}.{part}.weight"), weights.get(f"{name}.{part}.bias"))

    def mixture(experts: ExpertsSpec) -> Experts:
        names = [weight.name for weight in expert_weights(experts, name, "", spec.hidden_size, 1.0)]
        return Experts(experts, {full.removeprefix(f"{name}."): weights.pop(full) for full in names})

    has_qk_norm = f"{name}.q_norm" in weights
    return _Layer(
        attention_norm=weights[f"{name}.attention_norm"],
        qkv=product("qkv"),
        qk_norm=QkNorm(weights[f"{name}.q_norm"], weights[f"{name}.k_norm"]) if has_qk_norm else None,
        attention=spec.attention[index],
        output=product("output"),
        attention_post_norm=weights.get(f"{name}.attention_post_norm"),
        mlp_norm=weights[f"{name}.mlp_norm"],
        mlp=Mlp(product("gate_up"), product("down")) if experts is None else mixture(experts),
        mlp_post_norm=weights.get(f"{name}.mlp_post_norm"),
    )
