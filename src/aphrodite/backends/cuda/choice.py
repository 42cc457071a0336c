"""Which of the ways to run a step a device gets."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aphrodite.backends.cuda.cpu.kernels import NativeKernels
from aphrodite.backends.cuda.cpu.native_operations import NativeOperations
from aphrodite.backends.cuda.cpu.rows import native_softmax
from aphrodite.backends.cuda.gpu.graphs import Capture, CudaCapture
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.operations import StepOperations, TorchOperations
from aphrodite.backends.cuda.rotary import RotaryTables
from aphrodite.backends.cuda.sampler import Choose, choose_tokens
from aphrodite.domain.architectures.spec import DecoderSpec
from aphrodite.domain.scheduling.flatten import FlatStep
from aphrodite.domain.scheduling.step_arrays import StepArrays

if TYPE_CHECKING:
    from aphrodite.backends.cuda.gpu.kernels.split_workspace import SplitWorkspace

MakeOperations = Callable[[FlatStep, StepArrays[Tensor]], StepOperations]


@dataclass(frozen=True, slots=True)
class Execution:
    """How a step is run: the decoder's operations, the draw, and where one may record graphs, how."""

    name: str
    make_operations: MakeOperations
    choose: Choose
    capture: Capture | None


def choose_execution(
    spec: DecoderSpec, rotary: RotaryTables, cache: KvCache, block_size: int, max_model_len: int, device: torch.device
) -> Execution:
    """Triton kernels and CUDA graphs on an NVIDIA GPU where triton is installed, C++ kernels on a CPU where a compiler
    is; plain torch elsewhere.
    """
    if device.type == "cpu":
        dtype = cache.numbers.dtype
        native, softmax = NativeKernels.create(dtype, spec.num_heads, cache), native_softmax(dtype)
        if native is not None and softmax is not None:
            return Execution(
                "C++ kernels", partial(NativeOperations, spec, rotary, cache, native, softmax), choose_tokens, None
            )
    if device.type != "cuda" or find_spec("triton") is None:
        return Execution("plain torch", partial(TorchOperations, spec, rotary, cache), choose_tokens, None)
    # Imported only where it is used: a machine without a GPU need not have triton.
    from aphrodite.backends.cuda.gpu.kernels.split_workspace import SplitWorkspace

    workspace = SplitWorkspace.allocate(spec.num_heads, spec.num_kv_heads, spec.head_dim, max_model_len, device)
    return triton_execution(spec, rotary, cache, block_size, workspace, CudaCapture(device))


def triton_execution(
    spec: DecoderSpec,
    rotary: RotaryTables,
    cache: KvCache,
    block_size: int,
    workspace: "SplitWorkspace",
    capture: Capture | None,
) -> Execution:
    """Triton kernels, and graphs where there is a way to capture them."""
    from aphrodite.backends.cuda.gpu.triton_operations import TritonOperations, choose_tokens_with_triton

    make_operations = partial(TritonOperations, spec, rotary, cache, block_size, workspace)
    name = "Triton kernels" if capture is None else "Triton kernels, steps of one token a row as CUDA graphs"
    return Execution(name, make_operations, choose_tokens_with_triton, capture)
