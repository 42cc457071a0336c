"""Norms, softmax and activations in C++."""

import math
from collections.abc import Callable
from ctypes import c_float, c_int64, c_void_p

import torch
from torch import Tensor

from aphrodite.backends.cuda.cpu.function import native_function
from aphrodite.domain.architectures.activation import Activation

_P, _I, _F = c_void_p, c_int64, c_float
_TANH = 2 * math.sqrt(2 / math.pi)
_GELUS: dict[Activation, tuple[float, float]] = {"quick_gelu": (1.702, 0.0), "gelu_tanh": (_TANH, 0.044715 * _TANH)}


def native_softmax(dtype: torch.dtype) -> Callable[[Tensor, float, int | None, int | None], Tensor] | None:
    """See `product_attention.Softmax`; None where there is no kernel for the number format."""
    kernel = native_function("softmax", dtype, _P, _I, _I, _F, _I, _I)
    if kernel is None:
        return None

    def softmax(scores: Tensor, scale: float, num_queries: int | None, window: int | None) -> Tensor:
        num_keys = scores.shape[-1]
        kernel(scores.data_ptr(), scores.numel() // num_keys, num_keys, scale, num_queries or 0, window or 0)
        return scores

    return softmax


def native_picture_attention(dtype: torch.dtype, head_dim: int) -> Callable[[Tensor], Tensor] | None:
    """Queries, keys and values [N, P, 3, H, D] of pictures' positions to their attention [N, P, H * D].

    None where there is no kernel for the number format and the head size, or none on this processor.
    """
    kernel = native_function("attend_pictures", dtype, _P, _P, *[_I] * 4)
    if kernel is None or head_dim % 2:  # numbers are multiplied in pairs
        return None

    def attend(qkv: Tensor) -> Tensor:
        num_pictures, num_positions, _, num_heads, _ = qkv.shape
        output = qkv.new_empty(num_pictures, num_positions, num_heads * head_dim)
        kernel(qkv.data_ptr(), output.data_ptr(), num_pictures, num_positions, num_heads, head_dim)
        return output

    return attend


def native_layer_norm(dtype: torch.dtype) -> Callable[[Tensor, Tensor, Tensor, float], Tensor] | None:
    """(x [..., E], weight [E], bias [E], epsilon) to the norm of x (arXiv 1607.06450)."""
    kernel = native_function("layer_norm", dtype, _P, _P, _P, _P, _I, _I, _F)
    if kernel is None:
        return None

    def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        x = x.contiguous()
        normed, width = torch.empty_like(x), x.shape[-1]
        pointers = (x.data_ptr(), weight.data_ptr(), bias.data_ptr(), normed.data_ptr())
        kernel(*pointers, x.numel() // width, width, epsilon)
        return normed

    return layer_norm


def native_activation(name: Activation, dtype: torch.dtype) -> Callable[[Tensor], Tensor] | None:
    """That activation, in place; None where there is no kernel for it or for the number format."""
    kernel = native_function("sigmoid_gelu", dtype, _P, _I, _F, _F)
    if kernel is None or name not in _GELUS:
        return None
    factors = _GELUS[name]

    def activate(x: Tensor) -> Tensor:
        kernel(x.data_ptr(), x.numel(), *factors)
        return x

    return activate
