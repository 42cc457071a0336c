"""How much of the device's memory is free for the KV cache."""

import os

import torch

from aphrodite.domain.config import EngineConfig

_HOST_SHARE = 0.25  # of the memory that is free on a CPU: the rest of the machine wants some too


def free_bytes(config: EngineConfig, device: torch.device) -> int:
    """What is left for the cache beside the weights, which are there already; a step's activations take of the rest."""
    if device.type != "cuda":
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _HOST_SHARE)
    torch.cuda.empty_cache()  # what torch keeps of tensors that are gone, such as those of an engine before this one
    free, total = torch.cuda.mem_get_info(device)
    return int(total * config.gpu_memory_utilization) - (total - free)
