"""How much of the devices' memory is free for the KV cache."""

import os

import jax

from aphrodite.domain.config import EngineConfig

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
