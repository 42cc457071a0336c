"""What a step brings from the host to the device, in one copy."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT = 16  # bytes: enough for every number format, and for a kernel's widest loads
_DTYPES = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.int32): torch.int32,
    np.dtype(np.float32): torch.float32,
}


class Staging:
    """Pinned buffers that take turns.

    A GPU fetches pinned memory by itself while the host goes on; so a buffer is filled anew only when its last copy is
    done, and with a buffer more than there are steps in flight nobody has to wait for that.
    """

    def __init__(self, max_steps_in_flight: int, device: torch.device) -> None:
        self._device = device
        self._buffers = [_PinnedBuffer(device) for _ in range(max_steps_in_flight + 1)]

    def send(self, arrays: Sequence[np.ndarray]) -> list[Tensor]:
        """Arrays of uint8, int32 or float32 on the device, in memory of their own; they may be changed at once."""
        starts, num_bytes = [], 0
        for array in arrays:
            starts.append(num_bytes)
            num_bytes += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        buffer = self._buffers.pop(0)
        self._buffers.append(buffer)
        host = buffer.reserve(num_bytes)
        for array, start in zip(arrays, starts, strict=True):
            host[start : start + array.nbytes].view(array.dtype)[:] = array.ravel()
        sent = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
        buffer.copy_to(sent)
        return [
            sent[start : start + array.nbytes].view(_DTYPES[array.dtype]).view(array.shape)
            for array, start in zip(arrays, starts, strict=True)
        ]


class _PinnedBuffer:
    def __init__(self, device: torch.device) -> None:
        self._is_pinned = device.type == "cuda"
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._array = self._memory.numpy()
        self._fetched: torch.cuda.Event | None = None

    def reserve(self, num_bytes: int) -> np.ndarray:
        """Room to fill, uint8 [num_bytes or more], once what was in it is on the device."""
        if self._fetched is not None:
            self._fetched.synchronize()
        if self._memory.numel() < num_bytes:
            room = 1 << math.ceil(math.log2(num_bytes))  # grows a few times at most
            self._memory = torch.empty(room, dtype=torch.uint8, pin_memory=self._is_pinned)
            self._array = self._memory.numpy()
        return self._array

    def copy_to(self, target: Tensor) -> None:
        target.copy_(self._memory[: target.numel()], non_blocking=True)
        if self._is_pinned:
            self._fetched = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._fetched.record()
