"""The decoder's steps between its matrix products, and the draw, each one Triton kernel.

Letters as in operations.py; S samples, V vocabulary.
"""

import torch
from torch import Tensor

from aphrodite.backends.cuda.gpu.kernels.add_rms_norm import add_rms_norm
from aphrodite.backends.cuda.gpu.kernels.gated_activation import gated_activation
from aphrodite.backends.cuda.gpu.kernels.paged_attention import paged_attention
from aphrodite.backends.cuda.gpu.kernels.rotary_cache import rotate_and_cache
from aphrodite.backends.cuda.gpu.kernels.sampling import sample_tokens
from aphrodite.backends.cuda.gpu.kernels.split_workspace import SplitWorkspace
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.operations import QkNorm
from aphrodite.backends.cuda.rotary import RotaryTables
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec
from aphrodite.domain.scheduling.flatten import FlatStep
from aphrodite.domain.scheduling.sampling_words import SamplingNeeds
from aphrodite.domain.scheduling.step_arrays import SampleArrays, StepArrays


class TritonOperations:
    """Implements `operations.StepOperations` on a GPU: nothing of a step's lengths is worked out on the host."""

    def __init__(
        self,
        spec: DecoderSpec,
        rotary: RotaryTables,
        cache: KvCache,
        block_size: int,
        workspace: SplitWorkspace,
        flat: FlatStep,
        arrays: StepArrays[Tensor],
    ) -> None:
        self._spec = spec
        self._rotary = rotary.of_step(arrays.rope_positions)
        self._cache = cache
        self._arrays = arrays
        self._block_size = block_size
        self._workspace = workspace
        self._visible_until = arrays.visible_until if flat.sees_forward else None
        self._has_single_rows = flat.num_single_rows > 0
        self._has_chunks = flat.num_tokens > flat.num_single_rows

    def add_rms_norm(self, residual: Tensor, x: Tensor | None, weight: Tensor) -> Tensor:
        return add_rms_norm(residual, x, weight, self._spec.rms_norm_eps)

    def rotate_and_store(self, layer: int, qkv: Tensor, norm: QkNorm | None) -> Tensor:
        self._rotary[layer].scale_queries(qkv[:, : self._spec.num_heads])
        return rotate_and_cache(
            qkv,
            self._rotary[layer].cos,
            self._rotary[layer].sin,
            self._arrays.kv_slots,
            self._cache.keys[layer],
            self._cache.values[layer],
            None if norm is None else norm.queries,
            None if norm is None else norm.keys,
            self._spec.rms_norm_eps,
        )

    def attend(self, layer: int, queries: Tensor, attention: AttentionSpec) -> Tensor:
        output = torch.empty_like(queries)
        paged_attention(
            queries,
            self._cache.keys[layer],
            self._cache.values[layer],
            self._arrays.block_table,
            self._arrays.row_starts,
            self._arrays.kv_lengths,
            self._block_size,
            attention,
            self._workspace,
            output,
            has_single_rows=self._has_single_rows,
            has_chunks=self._has_chunks,
            visible_until=self._visible_until,
        )
        return output

    def gate(self, gate_up: Tensor) -> Tensor:
        return gated_activation(gate_up, self._spec.activation)


def choose_tokens_with_triton(logits: Tensor, arrays: SampleArrays[Tensor], _needs: SamplingNeeds) -> Tensor:
    """`sampler.Choose` in one kernel, whatever the rows need."""
    return sample_tokens(logits, arrays.temperature, arrays.top_k, arrays.top_p, arrays.min_p, arrays.uniform)
