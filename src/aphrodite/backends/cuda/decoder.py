"""The text decoder: one interpreter for every DecoderSpec.

Letters: T tokens, S samples, E hidden size, I intermediate size, H heads, K key/value heads, D head size, V vocabulary.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import embedding, linear

from aphrodite.backends.cuda.operations import QkNorm, StepOperations
from aphrodite.domain.architectures.spec import DecoderSpec


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor  # [E]
    qkv: Tensor  # [(H + 2K) * D, E]
    qkv_bias: Tensor | None
    qk_norm: QkNorm | None
    output: Tensor  # [E, H * D]
    output_bias: Tensor | None
    mlp_norm: Tensor  # [E]
    gate_up: Tensor  # [2I, E]
    gate_up_bias: Tensor | None
    down: Tensor  # [E, I]
    down_bias: Tensor | None
    window: int | None


class Decoder:
    """Token embeddings to logits, over a paged KV cache."""

    def __init__(self, spec: DecoderSpec, weights: dict[str, Tensor]) -> None:
        self._head_dim = spec.head_dim
        self._embed = weights["embed.weight"]  # [V, E]
        self._head = weights.get("lm_head.weight", self._embed)  # [V, E]
        self._norm = weights["norm"]  # [E]
        self._layers = [_layer(weights, f"layers.{i}", spec.windows[i]) for i in range(spec.num_layers)]

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token ids [T] to embeddings [T, E]."""
        return embedding(token_ids, self._embed)

    def forward(self, residual: Tensor, step: StepOperations) -> Tensor:
        """Embeddings [T, E], which are overwritten, to hidden states [T, E] ready for `logits`; fills the KV cache."""
        x: Tensor | None = None
        for index, layer in enumerate(self._layers):
            x = self._attend(index, layer, step.add_rms_norm(residual, x, layer.attention_norm), step)
            x = self._mlp(layer, step.add_rms_norm(residual, x, layer.mlp_norm), step)
        return step.add_rms_norm(residual, x, self._norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [S, E] to float32 logits [S, V]."""
        return linear(hidden, self._head).float()

    def _attend(self, index: int, layer: _Layer, hidden: Tensor, step: StepOperations) -> Tensor:
        qkv = linear(hidden, layer.qkv, layer.qkv_bias).unflatten(1, (-1, self._head_dim))  # [T, H + 2K, D]
        queries = step.rotate_and_store(index, qkv, layer.qk_norm)
        attended = step.attend(index, queries, layer.window)
        return linear(attended.flatten(1), layer.output, layer.output_bias)

    def _mlp(self, layer: _Layer, hidden: Tensor, step: StepOperations) -> Tensor:
        gated = step.gate(linear(hidden, layer.gate_up, layer.gate_up_bias))
        return linear(gated, layer.down, layer.down_bias)


def _layer(weights: dict[str, Tensor], name: str, window: int | None) -> _Layer:
    has_qk_norm = f"{name}.q_norm" in weights
    return _Layer(
        attention_norm=weights[f"{name}.attention_norm"],
        qkv=weights[f"{name}.qkv.weight"],
        qkv_bias=weights.get(f"{name}.qkv.bias"),
        qk_norm=QkNorm(weights[f"{name}.q_norm"], weights[f"{name}.k_norm"]) if has_qk_norm else None,
        output=weights[f"{name}.output.weight"],
        output_bias=weights.get(f"{name}.output.bias"),
        mlp_norm=weights[f"{name}.mlp_norm"],
        gate_up=weights[f"{name}.gate_up.weight"],
        gate_up_bias=weights.get(f"{name}.gate_up.bias"),
        down=weights[f"{name}.down.weight"],
        down_bias=weights.get(f"{name}.down.bias"),
        window=window,
    )
