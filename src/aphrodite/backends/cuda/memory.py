"""How much of the device's memory is free for the KV cache."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from aphrodite.domain.config import EngineConfig

_HOST_SHARE = 0.25  # of the memory that is free on a CPU: the rest of the machine wants some too


def cache_bytes(
    config: EngineConfig, device: torch.device, try_steps: Callable[[], AbstractContextManager[None]]
) -> int:
    """What was asked for, or on a GPU what is left beside the weights, which are there already, and steps.

    `try_steps` allocates what steps need, runs the largest, and gives everything back when the context ends. It is
    entered where its memory decides.
    """
    if config.kv_cache_memory is not None:
        return config.kv_cache_memory
    if device.type != "cuda":
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _HOST_SHARE)
    torch.cuda.empty_cache()  # what torch keeps of tensors that are gone, such as those of an engine before this one
    free, total = torch.cuda.mem_get_info(device)
    return int(total * config.gpu_memory_utilization) - (total - free) - _bytes_of_steps(device, try_steps)


def _bytes_of_steps(device: torch.device, try_steps: Callable[[], AbstractContextManager[None]]) -> int:
    """At their peak, in torch's own memory; and outside of it, where graphs, kernels and libraries lie."""
    torch.cuda.reset_peak_memory_stats(device)
    held, outside = torch.cuda.memory_reserved(device), _outside(device)
    with try_steps():
        return torch.cuda.max_memory_reserved(device) - held + max(_outside(device) - outside, 0)


def _outside(device: torch.device) -> int:
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device)
