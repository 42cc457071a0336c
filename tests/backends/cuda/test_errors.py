"""What a step's exception means. CUDA itself is played: its errors come from torch's own classes."""

import pytest
import torch

from aphrodite.backends.cuda.errors import step_error
from aphrodite.domain.errors import DeviceLostError, StepError

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
ILLEGAL = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.fixture(params=[True, False], ids=["spoilt", "well"])
def spoilt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the CUDA context answers every call with the error that it had before."""

    def synchronize(device: torch.device) -> None:
        assert device == GPU
        if request.param:
            raise ILLEGAL

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    return bool(request.param)


@pytest.mark.parametrize("error", [ILLEGAL, RuntimeError("Triton Error [CUDA]: an illegal memory access"), KeyError()])
def test_an_error_that_stays_is_the_end_of_the_device(spoilt: bool, error: Exception) -> None:
    assert type(step_error(error, GPU)) is (DeviceLostError if spoilt else StepError)
    assert "CUDA" not in str(step_error(error, GPU))
    assert type(step_error(error, CPU)) is StepError


def test_too_little_memory_concerns_one_step(spoilt: bool) -> None:
    assert "ran out of memory" in str(step_error(torch.OutOfMemoryError(), GPU))
    assert type(step_error(torch.OutOfMemoryError(), GPU)) is StepError
