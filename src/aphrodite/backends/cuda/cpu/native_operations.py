"""The decoder's steps between its matrix products on a CPU, each one C++ kernel."""

import torch
from torch import Tensor

from aphrodite.backends.cuda.activations import activation
from aphrodite.backends.cuda.attention import ChunkRows, chunks_of
from aphrodite.backends.cuda.cpu.kernels import NativeKernels
from aphrodite.backends.cuda.cpu.product_attention import Softmax
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.operations import QkNorm
from aphrodite.backends.cuda.rotary import RotaryTables
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec
from aphrodite.domain.scheduling.flatten import FlatStep
from aphrodite.domain.scheduling.step_arrays import StepArrays


class NativeOperations:
    """Implements `operations.StepOperations`. Chunks attend in torch where there is no kernel for them."""

    def __init__(
        self,
        spec: DecoderSpec,
        rotary: RotaryTables,
        cache: KvCache,
        kernels: NativeKernels,
        softmax: Softmax,
        flat: FlatStep,
        arrays: StepArrays[Tensor],
    ) -> None:
        self._spec = spec
        self._rotary = rotary.of_step(arrays.rope_positions)
        self._kernels = kernels
        self._arrays = arrays
        self._num_singles = flat.num_single_rows
        self._chunks = chunks_of(flat) if kernels.attends_chunks else []
        self._torch_chunks = None if kernels.attends_chunks else ChunkRows(flat, arrays, cache, softmax)

    def add_rms_norm(self, residual: Tensor, x: Tensor | None, weight: Tensor) -> Tensor:
        return self._kernels.add_rms_norm(residual, x, weight, self._spec.rms_norm_eps)

    def rotate_and_store(self, layer: int, qkv: Tensor, norm: QkNorm | None) -> Tensor:
        self._rotary[layer].scale_queries(qkv[:, : self._spec.num_heads])
        self._kernels.rotate_and_store(
            layer,
            qkv,
            self._rotary[layer],
            self._arrays.kv_slots,
            None if norm is None else norm.queries,
            None if norm is None else norm.keys,
            self._spec.rms_norm_eps,
        )
        return qkv[:, : self._spec.num_heads]

    def attend(self, layer: int, queries: Tensor, attention: AttentionSpec) -> Tensor:
        output = torch.empty(queries.shape, dtype=queries.dtype)
        if self._num_singles:
            singles = queries[: self._num_singles]
            table, lengths = self._arrays.block_table, self._arrays.kv_lengths
            self._kernels.attend_rows(layer, singles, table, lengths, attention, output)
        for chunk in self._chunks:
            own, blocks = slice(chunk.first, chunk.last), self._arrays.block_table[chunk.row]
            until = None if chunk.visible_until is None else self._arrays.visible_until[own]
            self._kernels.attend_chunk(layer, queries[own], blocks, chunk.start, until, attention, output[own])
        if self._torch_chunks is not None:
            self._torch_chunks.attend(layer, queries, attention, output)
        return output

    def gate(self, gate_up: Tensor) -> Tensor:
        if self._spec.activation == "silu":
            return self._kernels.gate_silu(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return activation(self._spec.activation)(gate).mul_(up)
