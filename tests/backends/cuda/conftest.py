"""The kernels' tests run in Triton's interpreter, or on a GPU (`TRITON_INTERPRET=0 pytest -m gpu`)."""

import pytest
import torch
import triton
from tests.backends.cuda.place import Place


@pytest.fixture(params=["interpreter", pytest.param("gpu", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "interpreter":
        if not triton.knobs.runtime.interpret:
            pytest.skip("Triton was imported to compile, not to interpret")
        return Place(torch.device("cpu"), torch.float32)
    if triton.knobs.runtime.interpret or not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU and TRITON_INTERPRET=0")
    return Place(torch.device("cuda"), torch.bfloat16)
