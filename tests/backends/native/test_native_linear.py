import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.backends.cuda.cpu.function import native_function
from aphrodite.backends.cuda.cpu.linear import NativeLinear
from aphrodite.backends.cuda.linear import linear

sizes = {
    "rows": st.one_of(st.integers(1, 40), st.sampled_from([511, 512, 513, 1030])),
    "outputs": st.one_of(st.integers(1, 100), st.sampled_from([256, 300])),
    "inputs": st.one_of(st.integers(1, 70), st.sampled_from([32, 64, 576, 608, 1216])),  # 32 fill a tile of AMX's
    "has_bias": st.booleans(),
    "seed": st.integers(0, 2**32 - 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(**sizes)
def test_a_product(dtype: torch.dtype, rows: int, outputs: int, inputs: int, has_bias: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    weight, x = normal(outputs, inputs), normal(2, rows, inputs)
    bias = normal(outputs) if has_bias else None
    exact = x.double().numpy() @ weight.double().numpy().T + (0 if bias is None else bias.double().numpy())
    with torch.inference_mode():
        result = linear(weight, bias)(x)
    assert result.dtype == dtype
    # The sum is float32; then the result is rounded to the format's own digits.
    scale = np.abs(x.double().numpy()) @ np.abs(weight.double().numpy().T) + 1
    tolerance = scale * 1e-6 + np.abs(exact) * (2**-8 if dtype == torch.bfloat16 else 0)
    assert (np.abs(result.double().numpy() - exact) <= tolerance).all()


def test_a_strided_input() -> None:
    x, weight = torch.randn(3, 4, 10).bfloat16(), torch.randn(6, 10).bfloat16()
    product = linear(weight, None)
    torch.testing.assert_close(product(x[:, 1:]), product(x)[:, 1:])


def test_processors_with_avx512_bf16_have_the_kernel() -> None:
    assert native_function("attend_rows", torch.bfloat16) is not None, "these tests need a C++ compiler"
    is_there = NativeLinear.create(torch.zeros(2, 2, dtype=torch.bfloat16), None) is not None
    assert is_there == bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
