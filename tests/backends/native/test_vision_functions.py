"""What the vision tower computes between its products on a CPU, beside the same in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from aphrodite.backends.cuda.cpu.product_attention import TorchSoftmax, picture_attention
from aphrodite.backends.cuda.vision_functions import VisionFunctions
from aphrodite.domain.architectures.activation import Activation

FORMATS = [torch.float32, torch.bfloat16]
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 2**-7}  # of bfloat16: the weights of the values are rounded, too
CPU = torch.device("cpu")


def normal(dtype: torch.dtype, seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("is_native", [True, False])
@given(
    pictures=st.integers(1, 3),
    positions=st.one_of(st.integers(1, 40), st.just(577)),
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([2, 5, 8, 32, 64, 72]),
    seed=st.integers(0, 99),
)
def test_attention(
    dtype: torch.dtype, is_native: bool, pictures: int, positions: int, heads: int, head_dim: int, seed: int
) -> None:
    qkv = normal(dtype, seed, pictures, positions, 3, heads, head_dim)
    exact = functional.scaled_dot_product_attention(*qkv.double().permute(2, 0, 3, 1, 4)).transpose(1, 2).flatten(2)
    functions = VisionFunctions.choose("quick_gelu", head_dim, dtype, CPU)
    attended = functions.attention(qkv) if is_native else picture_attention(qkv, TorchSoftmax())
    tolerance = TOLERANCES[dtype] * qkv[:, :, 2].abs().max().item()
    torch.testing.assert_close(attended.double(), exact, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("size", [3e4, 1e5, 1e8])
def test_attention_of_large_scores(dtype: torch.dtype, size: float) -> None:
    qkv = normal(dtype, 0, 1, 40, 3, 2, 64)
    qkv[:, :, :2] = size  # every position sees all others alike
    attended = VisionFunctions.choose("quick_gelu", 64, dtype, CPU).attention(qkv)
    mean = qkv[:, :, 2].double().mean(dim=1, keepdim=True).flatten(2)
    torch.testing.assert_close(attended.double(), mean.expand(-1, 40, -1), atol=2 * TOLERANCES[dtype], rtol=0)


@pytest.mark.parametrize("dtype", FORMATS)
def test_attention_after_a_larger_one_of_nan(dtype: torch.dtype) -> None:
    functions = VisionFunctions.choose("quick_gelu", 32, dtype, CPU)
    functions.attention(torch.full((1, 60, 3, 2, 32), torch.nan, dtype=dtype))
    assert functions.attention(normal(dtype, 0, 1, 33, 3, 2, 32)).isfinite().all()


@pytest.mark.parametrize("dtype", FORMATS)
@given(rows=st.integers(1, 20), width=st.integers(2, 200), mean=st.floats(-20, 20), seed=st.integers(0, 99))
def test_layer_norm(dtype: torch.dtype, rows: int, width: int, mean: float, seed: int) -> None:
    x = (normal(torch.float32, seed, 2, rows, width) + mean).to(dtype)
    weight, bias = normal(dtype, seed + 1, width), normal(dtype, seed + 2, width)
    exact = functional.layer_norm(x.double(), (width,), weight.double(), bias.double(), 1e-5)
    normed = VisionFunctions.choose("gelu", 8, dtype, CPU).layer_norm(x, weight, bias, 1e-5)
    torch.testing.assert_close(normed.double(), exact, atol=2e-4 if dtype == torch.float32 else 2**-6, rtol=2**-7)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", ["quick_gelu", "gelu_tanh", "gelu"])
def test_activation(dtype: torch.dtype, name: Activation) -> None:
    x = torch.linspace(-90, 90, 3601).to(dtype)
    exact = {
        "quick_gelu": lambda y: y * torch.sigmoid(1.702 * y),
        "gelu_tanh": lambda y: functional.gelu(y, approximate="tanh"),
        "gelu": functional.gelu,
    }[name](x.double())
    activated = VisionFunctions.choose(name, 8, dtype, CPU).activation(x.clone())
    torch.testing.assert_close(activated.double(), exact, atol=2e-6, rtol=1e-5 if dtype == torch.float32 else 2**-8)
