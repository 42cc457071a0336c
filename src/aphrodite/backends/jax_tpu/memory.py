"""How much memory the devices have left, and what is said when it does not do."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from aphrodite.backends.jax_tpu.errors import is_out_of_memory
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import CapacityError

_HOST_SHARE = 0.25  # of the memory that is free on a CPU: the rest of the machine wants some too


def free_bytes(config: EngineConfig, devices: list[jax.Device]) -> int:
    """What all devices together have left for the cache, once weights have their part."""
    if devices[0].platform == "cpu":
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _HOST_SHARE)
    left: list[int] = []
    for device in devices:
        stats = device.memory_stats()
        left.append(int(stats["bytes_limit"] * config.gpu_memory_utilization) - stats["bytes_in_use"])
    return len(devices) * min(left)


def bytes_of(tree: Any) -> int:
    """Bytes that a tree of `jax.ShapeDtypeStruct` with shardings takes on one device."""
    return sum(
        math.prod(struct.sharding.shard_shape(struct.shape)) * struct.dtype.itemsize for struct in jax.tree.leaves(tree)
    )


def check_room(what: str, num_bytes: int, device: jax.Device, advice: str) -> None:
    """Raises CapacityError when `num_bytes` of each device, all of them like `device`, cannot be there."""
    if num_bytes > _left_bytes(device):
        raise _shortage(what, f"{num_bytes / 2**30:,.1f} GiB of each device's memory", device, advice)


@contextmanager
def report_shortage(what: str, advice: str, device: jax.Device) -> Iterator[None]:
    """Raises CapacityError when the runtime finds in this block that there is too little memory."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _shortage(what, "more memory than there is", device, advice) from error


def _shortage(what: str, needed: str, device: jax.Device, advice: str) -> CapacityError:
    return CapacityError(
        f"{what} need {needed}, and {device} has {max(_left_bytes(device), 0) / 2**30:,.1f} GiB left; {advice}."
    )


def _left_bytes(device: jax.Device) -> int:
    if device.platform == "cpu":  # all there is: what other uses of it can be asked to leave is not to be known
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    stats = device.memory_stats()
    return int(stats["bytes_limit"] - stats["bytes_in_use"])
