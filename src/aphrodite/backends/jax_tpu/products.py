"""Products with weights as checkpoints have them."""

from collections.abc import Callable

from jax import Array, lax

Multiply = Callable[[Array, Array], Array]
"""x [T, in] times a weight [out, in]: [T, out]."""


def multiply(x: Array, weight: Array) -> Array:
    """As XLA does it; of any x [..., in]."""
    return lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))
