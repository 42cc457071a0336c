"""The text decoder: one interpreter for every DecoderSpec.

Letters: T tokens, S samples, E hidden size, H heads, K key/value heads, D head size, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm

from aphrodite.backends.cuda.activations import activation
from aphrodite.backends.cuda.attention import AttentionBatch, KvCache
from aphrodite.domain.architectures.spec import DecoderSpec


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor  # [E]
    qkv: Tensor  # [(H + 2K) * D, E]
    qkv_bias: Tensor | None
    q_norm: Tensor | None  # [D]
    k_norm: Tensor | None  # [D]
    output: Tensor  # [E, H * D]
    output_bias: Tensor | None
    mlp_norm: Tensor  # [E]
    gate_up: Tensor  # [2 * intermediate, E]
    gate_up_bias: Tensor | None
    down: Tensor  # [E, intermediate]
    down_bias: Tensor | None
    window: int | None


class Decoder:
    """Token embeddings to logits, over a paged KV cache."""

    def __init__(self, spec: DecoderSpec, weights: dict[str, Tensor], max_model_len: int) -> None:
        self.spec = spec
        self._embed = weights["embed.weight"]  # [V, E]
        self._head = weights.get("lm_head.weight", self._embed)  # [V, E]
        self._norm = weights["norm"]  # [E]
        self._layers = [_layer(weights, f"layers.{i}", spec.windows[i]) for i in range(spec.num_layers)]
        self._activation = activation(spec.activation)
        frequencies = torch.from_numpy(spec.rope.inverse_frequencies(spec.head_dim)).to(self._embed.device)
        angles = torch.outer(torch.arange(max_model_len, device=self._embed.device, dtype=torch.float32), frequencies)
        self._cos = angles.cos().to(self._embed.dtype)  # [max_model_len, D / 2]
        self._sin = angles.sin().to(self._embed.dtype)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token ids [T] to embeddings [T, E]."""
        return embedding(token_ids, self._embed)

    def forward(self, hidden: Tensor, positions: Tensor, batch: AttentionBatch, cache: KvCache) -> Tensor:
        """Embeddings [T, E] to hidden states [T, E] ready for `logits`; writes the step's keys and values."""
        cos = self._cos[positions][:, None]  # [T, 1, D / 2]
        sin = self._sin[positions][:, None]
        for index, layer in enumerate(self._layers):
            hidden = hidden + self._attend(
                index, layer, self._normed(hidden, layer.attention_norm), cos, sin, batch, cache
            )
            hidden = hidden + self._mlp(layer, self._normed(hidden, layer.mlp_norm))
        return self._normed(hidden, self._norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [S, E] to float32 logits [S, V]."""
        return linear(hidden, self._head).float()

    def _attend(
        self, index: int, layer: _Layer, hidden: Tensor, cos: Tensor, sin: Tensor, batch: AttentionBatch, cache: KvCache
    ) -> Tensor:
        heads, kv_heads, head_dim = self.spec.num_heads, self.spec.num_kv_heads, self.spec.head_dim
        qkv = linear(hidden, layer.qkv, layer.qkv_bias).view(-1, heads + 2 * kv_heads, head_dim)
        if layer.q_norm is not None and layer.k_norm is not None:
            queries = self._normed(qkv[:, :heads], layer.q_norm)
            keys = self._normed(qkv[:, heads : heads + kv_heads], layer.k_norm)
            rotated = _rotate(torch.cat((queries, keys), dim=1), cos, sin)
        else:
            rotated = _rotate(qkv[:, : heads + kv_heads], cos, sin)  # queries and keys in one go
        cache.write(index, batch.kv_slots, rotated[:, heads:], qkv[:, heads + kv_heads :])
        attended = batch.attend(cache, index, rotated[:, :heads], layer.window)
        return linear(attended.reshape(-1, heads * head_dim), layer.output, layer.output_bias)

    def _mlp(self, layer: _Layer, hidden: Tensor) -> Tensor:
        gate, up = linear(hidden, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
        return linear(self._activation(gate) * up, layer.down, layer.down_bias)

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(hidden, weight.shape, weight, self.spec.rms_norm_eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on x [T, heads, D]: the pair of dimension i is i + D / 2, as Hugging Face lays weights out."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def _layer(weights: dict[str, Tensor], name: str, window: int | None) -> _Layer:
    return _Layer(
        attention_norm=weights[f"{name}.attention_norm"],
        qkv=weights[f"{name}.qkv.weight"],
        qkv_bias=weights.get(f"{name}.qkv.bias"),
        q_norm=weights.get(f"{name}.q_norm"),
        k_norm=weights.get(f"{name}.k_norm"),
        output=weights[f"{name}.output.weight"],
        output_bias=weights.get(f"{name}.output.bias"),
        mlp_norm=weights[f"{name}.mlp_norm"],
        gate_up=weights[f"{name}.gate_up.weight"],
        gate_up_bias=weights.get(f"{name}.gate_up.bias"),
        down=weights[f"{name}.down.weight"],
        down_bias=weights.get(f"{name}.down.bias"),
        window=window,
    )
