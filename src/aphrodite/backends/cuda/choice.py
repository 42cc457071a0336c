"""Which of the ways to run the decoder's operations a device gets."""

import logging
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from aphrodite.backends.cuda.attention import KvCache
from aphrodite.backends.cuda.operations import RotaryTables, StepOperations, TorchOperations
from aphrodite.domain.architectures.spec import DecoderSpec
from aphrodite.domain.scheduling.flatten import FlatStep

_log = logging.getLogger(__name__)

MakeOperations = Callable[[FlatStep, dict[str, Tensor]], StepOperations]


def choose_operations(
    spec: DecoderSpec, tables: RotaryTables, cache: KvCache, block_size: int, max_model_len: int, device: torch.device
) -> MakeOperations:
    """What makes a step's operations: Triton kernels on an NVIDIA GPU where triton is installed, else plain torch."""
    if device.type != "cuda" or find_spec("triton") is None:
        _log.info("The decoder's operations run in plain torch on %s.", device)
        return partial(TorchOperations, spec, tables, cache, block_size)
    # Imported only where it is used: a machine without a GPU need not have triton.
    from aphrodite.backends.cuda.kernels.split_workspace import SplitWorkspace
    from aphrodite.backends.cuda.triton_operations import TritonOperations

    workspace = SplitWorkspace.allocate(spec.num_heads, spec.num_kv_heads, spec.head_dim, max_model_len, device)
    _log.info("The decoder's operations run as Triton kernels on %s.", device)
    return partial(TritonOperations, spec, tables, cache, block_size, workspace)
