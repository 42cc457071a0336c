"""The C++ kernels by their names, for tensors of one number format.

Letters: T tokens, N rows of one token, E hidden size, I intermediate size, H heads, K key/value heads, D head size,
B blocks a row.
"""

from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_float, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from aphrodite.backends.cuda.cpu.function import native_function
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.rotary import Rotary
from aphrodite.domain.architectures.spec import AttentionSpec


class _Heads(Structure):
    """As in heads.h."""

    _fields_ = tuple(
        (name, c_int64)
        for name in (
            *("queries", "keys", "size", "block_size"),
            *("which_stride", "block_stride", "head_stride", "position_stride"),
        )
    )


class NativeKernels:
    """Every tensor is dense in its last two dimensions and of the format `dtype`, but for int32 numbers of a step."""

    def __init__(self, dtype: torch.dtype, num_heads: int, cache: KvCache) -> None:
        def function(name: str, *types: Any) -> Callable[..., None]:
            found = native_function(name, dtype, *types)
            assert found is not None
            return found

        p, i, f, heads = c_void_p, c_int64, c_float, POINTER(_Heads)
        self._add_rms_norm = function("add_rms_norm", p, p, p, p, i, i, f)
        self._gate_silu = function("gate_silu", p, p, i, i)
        self._rotate_and_store = function("rotate_and_store", p, p, p, p, p, p, f, p, i, heads)
        self._attend_rows = function("attend_rows", p, i, p, p, i, p, i, f, f, p, i, heads)
        self._attend_chunk = native_function("attend_chunk", dtype, p, i, p, p, i, i, i, p, f, f, p, heads)
        _, _, _, num_kv_heads, block_size, head_dim = cache.numbers.shape
        strides = cache.numbers.stride()[1:5]  # of [2, blocks, K, block size]
        self._heads = byref(_Heads(num_heads, num_kv_heads, head_dim, block_size, *strides))
        self._layers = list(cache.numbers)

    @classmethod
    def create(cls, dtype: torch.dtype, num_heads: int, cache: KvCache) -> "NativeKernels | None":
        """None where the kernels cannot be built, or do not know the number format."""
        return None if native_function("attend_rows", dtype) is None else cls(dtype, num_heads, cache)

    def add_rms_norm(self, residual: Tensor, x: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
        """See `operations.StepOperations`."""
        normed = torch.empty_like(residual)
        added = None if x is None else x.data_ptr()
        tokens, width = residual.shape
        self._add_rms_norm(residual.data_ptr(), added, weight.data_ptr(), normed.data_ptr(), tokens, width, epsilon)
        return normed

    def gate_silu(self, gate_up: Tensor) -> Tensor:
        """SiLU of the first half of gate_up [T, 2I], times the second half: [T, I]."""
        tokens, width = gate_up.shape
        gated = gate_up.new_empty(tokens, width // 2)
        self._gate_silu(gate_up.data_ptr(), gated.data_ptr(), tokens, width // 2)
        return gated

    def rotate_and_store(
        self,
        layer: int,
        qkv: Tensor,  # [T, H + 2K, D], overwritten
        rotary: Rotary,
        kv_slots: Tensor,  # int32 [T]
        query_norm: Tensor | None,  # [D]
        key_norm: Tensor | None,
        epsilon: float,
    ) -> None:
        """Norm, where there is one, and rotate queries and keys in place, and cache keys and values."""
        self._rotate_and_store(
            qkv.data_ptr(),
            kv_slots.data_ptr(),
            rotary.cos.data_ptr(),
            rotary.sin.data_ptr(),
            None if query_norm is None else query_norm.data_ptr(),
            None if key_norm is None else key_norm.data_ptr(),
            epsilon,
            self._layers[layer].data_ptr(),
            len(qkv),
            self._heads,
        )

    def attend_rows(
        self,
        layer: int,
        queries: Tensor,  # [N, H, D]
        block_table: Tensor,  # int32 [>= N, B]
        kv_lengths: Tensor,  # int32 [>= N]
        attention: AttentionSpec,
        output: Tensor,  # [>= N, H, D], dense
    ) -> None:
        """Attention of rows of one token each over their cached tokens."""
        self._attend_rows(
            queries.data_ptr(),
            queries.stride(0),
            self._layers[layer].data_ptr(),
            block_table.data_ptr(),
            block_table.stride(0),
            kv_lengths.data_ptr(),
            attention.window or 0,
            attention.scale,
            attention.softcap or 0.0,
            output.data_ptr(),
            len(queries),
            self._heads,
        )

    @property
    def attends_chunks(self) -> bool:
        """Whether `attend_chunk` is there for the number format, on this processor."""
        return self._attend_chunk is not None

    def attend_chunk(
        self,
        layer: int,
        queries: Tensor,  # [T, H, D]
        blocks: Tensor,  # int32 [>= B]
        start: int,
        visible_until: Tensor | None,  # int32 [T]
        attention: AttentionSpec,
        output: Tensor,  # [T, H, D], dense
    ) -> None:
        """Attention of a row's tokens, the first at position `start`, over its cached tokens, its own included."""
        assert self._attend_chunk is not None
        self._attend_chunk(
            queries.data_ptr(),
            queries.stride(0),
            self._layers[layer].data_ptr(),
            blocks.data_ptr(),
            start,
            len(queries),
            attention.window or 0,
            None if visible_until is None else visible_until.data_ptr(),
            attention.scale,
            attention.softcap or 0.0,
            output.data_ptr(),
            self._heads,
        )
