"""How much of the device's memory is free for the KV cache."""

import os

import torch

from aphrodite.domain.config import EngineConfig

_HOST_SHARE = 0.25  # of the memory that is free on a CPU: the rest of the machine wants some too


def free_bytes(config: EngineConfig, device: torch.device) -> int:
    """What is left for the cache once weights and a step's activations have their part."""
    if device.type != "cuda":
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _HOST_SHARE)
    free, total = torch.cuda.mem_get_info(device)
    reserved_peak = torch.cuda.max_memory_reserved(device)
    other = total - free - torch.cuda.memory_reserved(device)
    return int(total * config.gpu_memory_utilization) - other - reserved_peak
