"""The text decoder: one interpreter for every DecoderSpec.

Letters: T tokens, S samples, E hidden size, I intermediate size, H heads, K key/value heads, D head size, V vocabulary.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import embedding

from aphrodite.backends.cuda.linear import Linear, linear
from aphrodite.backends.cuda.operations import QkNorm, StepOperations
from aphrodite.domain.architectures.spec import DecoderSpec


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor  # [E]
    qkv: Linear  # [T, E] -> [T, (H + 2K) * D]
    qk_norm: QkNorm | None
    output: Linear  # [T, H * D] -> [T, E]
    mlp_norm: Tensor  # [E]
    gate_up: Linear  # [T, E] -> [T, 2I]
    down: Linear  # [T, I] -> [T, E]
    window: int | None


class Decoder:
    """Token embeddings to logits, over a paged KV cache."""

    def __init__(self, spec: DecoderSpec, weights: dict[str, Tensor]) -> None:
        """Takes its matrices out of `weights`, so that none is kept beside its packed copy."""
        self._head_dim = spec.head_dim
        self._embed = weights["embed.weight"]  # [V, E]
        self._head = linear(weights.pop("lm_head.weight", self._embed), None)  # [S, E] -> [S, V]
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
        return self._head(hidden).float()

    def _attend(self, index: int, layer: _Layer, hidden: Tensor, step: StepOperations) -> Tensor:
        qkv = layer.qkv(hidden).view(len(hidden), -1, self._head_dim)  # [T, H + 2K, D]
        queries = step.rotate_and_store(index, qkv, layer.qk_norm)
        attended = step.attend(index, queries, layer.window)
        return layer.output(attended.flatten(1))

    def _mlp(self, layer: _Layer, hidden: Tensor, step: StepOperations) -> Tensor:
        return layer.down(step.gate(layer.gate_up(hidden)))


def _layer(weights: dict[str, Tensor], name: str, window: int | None) -> _Layer:
    def product(part: str) -> Linear:
        return linear(weights.pop(f"{name}.{part}.weight"), weights.get(f"{name}.{part}.bias"))

    has_qk_norm = f"{name}.q_norm" in weights
    return _Layer(
        attention_norm=weights[f"{name}.attention_norm"],
        qkv=product("qkv"),
        qk_norm=QkNorm(weights[f"{name}.q_norm"], weights[f"{name}.k_norm"]) if has_qk_norm else None,
        output=product("output"),
        mlp_norm=weights[f"{name}.mlp_norm"],
        gate_up=product("gate_up"),
        down=product("down"),
        window=window,
    )
