"""How much of the device's memory the KV cache gets."""

import os

import torch

from aphrodite.domain.architectures.spec import DecoderSpec
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import CapacityError

_HOST_SHARE = 0.25  # of the memory that is free on a CPU: the rest of the machine wants some too


def bytes_per_block(spec: DecoderSpec, block_size: int, dtype: torch.dtype) -> int:
    return 2 * spec.num_layers * block_size * spec.num_kv_heads * spec.head_dim * dtype.itemsize


def num_kv_blocks(
    config: EngineConfig, spec: DecoderSpec, max_model_len: int, dtype: torch.dtype, device: torch.device
) -> int:
    """Blocks of the KV cache, the padding's included; never more than all slots could fill.

    Raises CapacityError when the memory does not hold one block beside the padding's.
    """
    block_bytes = bytes_per_block(spec, config.block_size, dtype)
    budget = config.kv_cache_memory if config.kv_cache_memory is not None else _free_bytes(config, device)
    useful = config.max_num_seqs * -(-max_model_len // config.block_size) + 1
    num_blocks = min(budget // block_bytes, useful)
    if num_blocks < 2:
        raise CapacityError(
            f"The KV cache needs at least {2 * block_bytes:,} bytes for one block of {config.block_size} tokens, "
            f"{max(budget, 0):,} are available; raise kv_cache_memory or gpu_memory_utilization, or lower block_size."
        )
    return num_blocks


def _free_bytes(config: EngineConfig, device: torch.device) -> int:
    """What is left for the cache once weights and a step's activations have their part."""
    if device.type != "cuda":
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _HOST_SHARE)
    free, total = torch.cuda.mem_get_info(device)
    reserved_peak = torch.cuda.max_memory_reserved(device)
    other = total - free - torch.cuda.memory_reserved(device)
    return int(total * config.gpu_memory_utilization) - other - reserved_peak
