"""A checkpoint's tensors to the device, one weight at a time."""

import numpy as np
import torch
from torch import Tensor

from aphrodite.backends.loading import shown
from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.architectures.weights import assemble, declare_weights
from aphrodite.domain.errors import CapacityError
from aphrodite.domain.ports import CheckpointSource


def load_weights(
    model: ModelSpec, checkpoint: CheckpointSource, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Every weight of `model` in `dtype` on `device`, merged ones made of their parts.

    Raises CheckpointError for tensors that do not fit the model, CapacityError when the device's memory is too small.
    """
    loaded: dict[str, Tensor] = {}
    try:
        for weight, parts in shown(assemble(model, checkpoint.tensors()), declare_weights(model)):
            target = torch.empty(weight.shape, dtype=torch.float32 if weight.is_precise else dtype, device=device)
            row = 0
            for part in parts:
                target[row : row + part.shape[0]].copy_(_as_tensor(part))
                row += part.shape[0]
            loaded[weight.name] = target
    except torch.OutOfMemoryError as error:
        needed = sum(weight.size for weight in declare_weights(model)) * dtype.itemsize
        raise CapacityError(
            f"The model's weights need {needed / 2**30:.1f} GiB in {str(dtype).removeprefix('torch.')}; "
            f"the memory of {device} is too small for them."
        ) from error
    return loaded


def _as_tensor(array: np.ndarray) -> Tensor:
    # torch does not know ml_dtypes' bfloat16, but it knows the same 16 bits.
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
