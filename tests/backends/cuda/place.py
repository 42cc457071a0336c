"""Where a kernel's test runs."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Place:
    """A device, and the number format that is used there."""

    device: torch.device
    dtype: torch.dtype
