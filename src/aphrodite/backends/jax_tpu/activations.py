"""Activation functions by the names that the specs use."""

from collections.abc import Callable
from functools import partial

import jax
from jax import Array
from jax.nn import gelu, silu

from aphrodite.domain.architectures.activation import Activation


def activation(name: Activation) -> Callable[[Array], Array]:
    functions: dict[Activation, Callable[[Array], Array]] = {
        "silu": silu,
        "gelu": partial(gelu, approximate=False),
        "gelu_tanh": partial(gelu, approximate=True),
        "quick_gelu": _quick_gelu,
    }
    return functions[name]


def _quick_gelu(x: Array) -> Array:
    return x * jax.nn.sigmoid(1.702 * x)
