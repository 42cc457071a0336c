"""How arrays lie on the devices: one table from logical axes to the axes of the mesh.

Tensor parallelism (arXiv 1909.08053): each device holds some attention heads with their KV cache, and some of the
MLP's inner units, or some experts; their partial sums are added after the two row-split products of a layer.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from aphrodite.domain.architectures.spec import DecoderSpec
from aphrodite.domain.architectures.weight import Axis, Weight
from aphrodite.domain.errors import BackendError

MODEL = "model"
_MESH_AXIS: dict[Axis, str | None] = {
    "heads": MODEL,
    "mlp": MODEL,
    "experts": MODEL,
    "vocab": MODEL,
    "hidden": None,
}
CACHE = P(None, None, MODEL, None)  # [blocks, block_size, 2K, D]: a device's heads lie together


def make_mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (MODEL,))


def check_divisible(spec: DecoderSpec, num_shards: int) -> None:
    """Raises BackendError for a model that cannot be split evenly."""
    counts = {
        "attention heads": spec.num_heads,
        "key/value heads": spec.num_kv_heads,
    }
    if not all(spec.experts):
        counts["inner units of the MLP"] = spec.intermediate_size
    for experts in filter(None, spec.experts):
        counts["experts"] = experts.num_experts
        if experts.shared is not None:
            counts["inner units of the shared expert"] = experts.shared.inner_size
    for what, count in counts.items():
        if count % num_shards:
            raise BackendError(
                f"The model's {count} {what} do not divide by tensor_parallel_size={num_shards}; choose another."
            )


def weight_spec(weight: Weight, num_shards: int) -> P:
    """The mesh axis of each of a weight's dimensions; a vocabulary that does not divide stays whole on every device."""
    if "vocab" in weight.axes and weight.shape[0] % num_shards:
        return P()
    return P(*(_MESH_AXIS[axis] for axis in weight.axes))


def sharding(mesh: Mesh, spec: P) -> NamedSharding:
    return NamedSharding(mesh, spec)


def zeros(struct: jax.ShapeDtypeStruct) -> jax.Array:
    """Zeros, not garbage: a masked position still takes part as 0 x value, and 0 x NaN is NaN."""

    def part(index: Any) -> np.ndarray:
        return np.zeros(_sizes(struct.shape, index), struct.dtype)

    return jax.make_array_from_callback(struct.shape, struct.sharding, part)


def _sizes(shape: tuple[int, ...], index: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(len(range(*part.indices(size))) for part, size in zip(index, shape, strict=True))
