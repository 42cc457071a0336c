"""What the decoder does between its matrix products: one Protocol, in plain torch here, in Triton on a GPU.

Letters: T tokens, E hidden size, I intermediate size, H heads, K key/value heads, D head size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from aphrodite.backends.cuda.activations import activation
from aphrodite.backends.cuda.attention import AttentionBatch
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.rotary import Rotary, RotaryTables
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec
from aphrodite.domain.scheduling.flatten import FlatStep
from aphrodite.domain.scheduling.step_arrays import StepArrays


@dataclass(frozen=True, slots=True)
class QkNorm:
    """Weights of the RMS norms over each head's queries and keys (Qwen3)."""

    queries: Tensor  # [D]
    keys: Tensor  # [D]


class StepOperations(Protocol):
    """One step's rows, made ready once for all layers."""

    def add_rms_norm(self, residual: Tensor, x: Tensor | None, weight: Tensor) -> Tensor:
        """Add x to the residual [T, E] in place, and return its RMS norm (arXiv 1910.07467) times weight [E]."""

    def rotate_and_store(self, layer: int, qkv: Tensor, norm: QkNorm | None) -> Tensor:
        """Rotate the queries and keys of qkv [T, H + 2K, D] and cache keys and values. Returns queries [T, H, D]."""

    def attend(self, layer: int, queries: Tensor, attention: AttentionSpec) -> Tensor:
        """Causal attention of queries [T, H, D] over the cache, the step's own keys included. Returns [T, H, D]."""

    def gate(self, gate_up: Tensor) -> Tensor:
        """The activation of the first half of gate_up [T, 2I], times the second half: [T, I]."""


class TorchOperations:
    """Plain torch: the reference, and the way where there are no kernels."""

    def __init__(
        self,
        spec: DecoderSpec,
        rotary: RotaryTables,
        cache: KvCache,
        flat: FlatStep,
        arrays: StepArrays[Tensor],
    ) -> None:
        self._spec = spec
        self._batch = AttentionBatch(flat, arrays, cache)
        cache.clear(self._batch.partial_blocks)
        self._activation: Callable[[Tensor], Tensor] = activation(spec.activation)
        self._rotary = rotary.of_step(arrays.rope_positions)

    def add_rms_norm(self, residual: Tensor, x: Tensor | None, weight: Tensor) -> Tensor:
        if x is not None:
            residual += x
        return self._normed(residual, weight)

    def rotate_and_store(self, layer: int, qkv: Tensor, norm: QkNorm | None) -> Tensor:
        heads, kv_heads = self._spec.num_heads, self._spec.num_kv_heads
        queries, keys = qkv[:, :heads], qkv[:, heads : heads + kv_heads]
        self._rotary[layer].scale_queries(queries)
        if norm is not None:
            queries.copy_(self._normed(queries, norm.queries))
            keys.copy_(self._normed(keys, norm.keys))
        _rotate(qkv[:, : heads + kv_heads], self._rotary[layer])  # queries and keys in one go
        self._batch.store(layer, qkv[:, heads:])
        return queries

    def attend(self, layer: int, queries: Tensor, attention: AttentionSpec) -> Tensor:
        return self._batch.attend(layer, queries, attention)

    def gate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return self._activation(gate).mul_(up)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, weight.shape, weight, self._spec.rms_norm_eps)


def _rotate(x: Tensor, rotary: Rotary) -> None:
    """Turn x [T, heads, D] to its positions; dimension i pairs with i + D / 2, as Hugging Face lays weights out."""
    cos, sin = rotary.cos[:, None], rotary.sin[:, None]  # [T, 1, D / 2]
    paired = x.roll(x.shape[-1] // 2, dims=-1)
    x.mul_(torch.cat((cos, cos), dim=-1)).addcmul_(paired, torch.cat((-sin, sin), dim=-1))
