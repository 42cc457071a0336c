"""A checkpoint's tensors straight to their devices, one weight at a time."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from aphrodite.backends.jax_tpu.memory import bytes_of, check_room, report_shortage
from aphrodite.backends.jax_tpu.sharding import MODEL, sharding, weight_spec
from aphrodite.backends.loading import shown
from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.architectures.weight import Weight
from aphrodite.domain.architectures.weights import assemble, declare_weights
from aphrodite.domain.ports import CheckpointSource

Weights = dict[str, jax.Array]


def weight_specs(model: ModelSpec, num_shards: int) -> dict[str, P]:
    """How each weight is split, by its name."""
    return {weight.name: weight_spec(weight, num_shards) for weight in declare_weights(model)}


def weight_structs(model: ModelSpec, dtype: np.dtype[Any], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Each weight's shape, and how it lies on the devices, by its name."""

    def struct(weight: Weight) -> jax.ShapeDtypeStruct:
        split = sharding(mesh, weight_spec(weight, mesh.size))
        return jax.ShapeDtypeStruct(_shape(weight), _dtype(weight, dtype), sharding=split)

    return {weight.name: struct(weight) for weight in declare_weights(model)}


def load_weights(model: ModelSpec, checkpoint: CheckpointSource, dtype: np.dtype[Any], mesh: Mesh) -> Weights:
    """Every weight of `model` in `dtype`, each device's part on it.

    A merged weight's part holds that part of each source: a device has queries, keys and values of its own heads.

    Raises CheckpointError for tensors that do not fit the model, CapacityError when the memory is too small.
    """
    what, device = f"The model's weights in {dtype.name}", mesh.devices.flat[0]
    advice = "choose a smaller dtype, more devices or a smaller model"
    check_room(what, bytes_of(weight_structs(model, dtype, mesh)), device, advice)
    loaded: Weights = {}
    with report_shortage(what, advice, device):
        for weight, parts in shown(assemble(model, checkpoint.tensors()), declare_weights(model)):
            loaded[weight.name] = _place(weight, parts, dtype, mesh)
        jax.block_until_ready(loaded)
    return loaded


def _place(weight: Weight, parts: list[np.ndarray], dtype: np.dtype[Any], mesh: Mesh) -> jax.Array:
    spec = weight_spec(weight, mesh.size)
    split = spec.index(MODEL) if MODEL in spec else None
    if weight.num_experts:  # a device has some whole ones
        parts = [np.concatenate(parts).reshape(weight.num_experts, -1, weight.shape[1]).swapaxes(1, 2)]
    arrays = []
    for index, device in enumerate(mesh.devices.flat):
        mine = [_share(part, split, index, mesh.size) for part in parts]
        arrays.append(jax.device_put(np.concatenate(mine).astype(_dtype(weight, dtype), copy=False), device))
    return jax.make_array_from_single_device_arrays(_shape(weight), sharding(mesh, spec), arrays)


def _shape(weight: Weight) -> tuple[int, ...]:
    """As it lies on the devices: of experts [N, inputs, outputs], which their products read as it is."""
    if not weight.num_experts:
        return weight.shape
    rows, inputs = weight.shape
    return weight.num_experts, inputs, rows // weight.num_experts


def _dtype(weight: Weight, dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32) if weight.is_precise else dtype


def _share(array: np.ndarray, axis: int | None, index: int, count: int) -> np.ndarray:
    """The `index`-th of `count` equal pieces along an axis; all of it where the axis is None."""
    if axis is None:
        return array
    size = array.shape[axis] // count
    return array[(slice(None),) * axis + (slice(index * size, (index + 1) * size),)]
