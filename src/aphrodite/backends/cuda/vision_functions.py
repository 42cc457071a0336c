"""What the vision tower does between its matrix products, as its device does it best."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from aphrodite.backends.cuda.activations import activation
from aphrodite.backends.cuda.cpu.product_attention import TorchSoftmax, picture_attention
from aphrodite.backends.cuda.cpu.rows import (
    native_activation,
    native_layer_norm,
    native_picture_attention,
    native_softmax,
)
from aphrodite.domain.architectures.activation import Activation

_ATTENTION_BY_PRIORITY = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(frozen=True, slots=True)
class VisionFunctions:
    """Letters: N images, H heads, P positions, D head size, E hidden size."""

    attention: Callable[[Tensor], Tensor]  # [N, P, 3 (queries, keys, values), H, D] to [N, P, H * D]
    activation: Callable[[Tensor], Tensor]  # may overwrite what it is given
    layer_norm: Callable[[Tensor, Tensor, Tensor, float], Tensor]  # (x [N, P, E], weight [E], bias [E], epsilon)

    @classmethod
    def choose(cls, name: Activation, head_dim: int, dtype: torch.dtype, device: torch.device) -> "VisionFunctions":
        """For a tower of that kind: C++ kernels on a CPU where they can be built, else torch's functions, but for what
        Triton does better.
        """
        if device.type != "cpu":
            return cls(_flash_attention, _triton_activation(name) or activation(name), _layer_norm)
        return cls(
            native_picture_attention(dtype, head_dim)
            or partial(picture_attention, softmax=native_softmax(dtype) or TorchSoftmax()),
            native_activation(name, dtype) or activation(name),
            native_layer_norm(dtype) or _layer_norm,
        )


def _triton_activation(name: Activation) -> Callable[[Tensor], Tensor] | None:
    """A kernel of Triton's, where triton is, for what torch needs several for."""
    if name != "quick_gelu" or find_spec("triton") is None:
        return None
    # Imported only where it is used: a machine without a GPU need not have triton.
    from aphrodite.backends.cuda.gpu.kernels.quick_gelu import quick_gelu

    return quick_gelu


def _flash_attention(qkv: Tensor) -> Tensor:
    """FlashAttention where it takes the number format, never cuDNN's, which would make a plan for every new shape."""
    queries, keys, values = qkv.permute(2, 0, 3, 1, 4)  # each [N, H, P, D]
    with sdpa_kernel(_ATTENTION_BY_PRIORITY, set_priority=True):
        return functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    return functional.layer_norm(x, weight.shape, weight, bias, epsilon)
