"""What torch raises in a step, as the engine knows it."""

import logging
from traceback import clear_frames

import torch

from aphrodite.domain.errors import BackendError, DeviceLostError, StepError

_log = logging.getLogger(__name__)


def step_error(error: Exception, device: torch.device) -> BackendError:
    """StepError for what concerns one step, DeviceLostError for what no later step on `device` would survive.

    Lets go of all that the frames of `error` hold: tensors of the step, while its requests keep the error.
    """
    clear_frames(error.__traceback__)
    if isinstance(error, torch.OutOfMemoryError):
        return StepError("The device ran out of memory in this step; lower max_num_batched_tokens.")
    if device.type == "cuda" and _is_lost(device):
        _log.error("The device is lost.", exc_info=error)
        return DeviceLostError("The device failed in a way that only a new process recovers from.")
    return StepError("The step failed on the device; its requests were given up.")


def _is_lost(device: torch.device) -> bool:
    """CUDA repeats an error that has spoilt its context (an illegal address, an assertion) at every later call."""
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False
