"""Activation functions by the names that the specs use."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from aphrodite.domain.architectures.activation import Activation


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    functions: dict[Activation, Callable[[Tensor], Tensor]] = {
        "silu": silu,
        "gelu": gelu,
        "gelu_tanh": partial(gelu, approximate="tanh"),
        "quick_gelu": _quick_gelu,
    }
    return functions[name]


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)
