"""What a decoder's layers are made of, chosen for the device."""

from typing import NamedTuple

import jax

from aphrodite.backends.jax_tpu.attention import (
    Attend,
    AttentionShape,
    agrees_with_plain,
    attend_packaged,
    packaged_takes,
)
from aphrodite.backends.jax_tpu.attention_pallas import attend_pallas
from aphrodite.backends.jax_tpu.attention_plain import attend_plain
from aphrodite.backends.jax_tpu.native import attend_native, is_native, multiply_native, rotate_and_store_native
from aphrodite.backends.jax_tpu.products import Multiply, multiply
from aphrodite.backends.jax_tpu.rotary import RotateAndStore, rotate_and_store


class Kernels(NamedTuple):
    """Products with the decoder's weights, the way of keys and values into the cache, and attention over it."""

    name: str
    multiply: Multiply
    rotate_and_store: RotateAndStore
    attend: Attend


def choose_kernels(shape: AttentionShape, device: jax.Device) -> Kernels:
    """On a TPU jax's own attention where it takes the shape and its numbers are right, else ours.

    On a CPU those in C++ where they can be built; else plain code.
    """
    if device.platform == "cpu" and is_native(shape.dtype):
        return Kernels("C++ kernels and XLA", multiply_native, rotate_and_store_native, attend_native)
    if device.platform != "tpu":
        return Kernels("XLA", multiply, rotate_and_store, attend_plain)
    if packaged_takes(shape) and agrees_with_plain(attend_packaged, shape, device):
        return Kernels("XLA and jax's own attention kernel", multiply, rotate_and_store, attend_packaged)
    return Kernels("XLA and a Pallas attention kernel", multiply, rotate_and_store, attend_pallas)
