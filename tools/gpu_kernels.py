"""Where a device's time goes: the kernels that take the most of a step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

_NUM_STEPS = 5
_NUM_KERNELS = 12
_NAME_LENGTH = 80  # the rest of a name is template arguments


@dataclass(frozen=True)
class Kernel:
    """One kernel's part of a step; on a CPU one of torch's operators'."""

    name: str
    calls: float
    microseconds: float


def longest_kernels(step: Callable[[], object], device: torch.device) -> tuple[Kernel, ...]:
    """Of a step that is repeated a few times under torch's profiler."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        for _ in range(_NUM_STEPS):
            step()
        if on_gpu:
            torch.cuda.synchronize(device)
    found = [
        Kernel(
            event.key[:_NAME_LENGTH],
            event.count / _NUM_STEPS,
            round((event.self_device_time_total if on_gpu else event.self_cpu_time_total) / _NUM_STEPS, 1),
        )
        for event in profiler.key_averages()
    ]
    return tuple(sorted(found, key=lambda kernel: -kernel.microseconds)[:_NUM_KERNELS])
