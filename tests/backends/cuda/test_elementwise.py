"""The kernels that have no sums over tokens: norms, rotation and cache write, gated activation."""

import pytest
import torch
from tests.backends.cuda.place import Place
from torch import Tensor
from torch.nn.functional import rms_norm
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from aphrodite.backends.cuda.gpu.kernels.add_rms_norm import add_rms_norm
from aphrodite.backends.cuda.gpu.kernels.gated_activation import gated_activation
from aphrodite.backends.cuda.gpu.kernels.quick_gelu import quick_gelu
from aphrodite.backends.cuda.gpu.kernels.rotary_cache import rotate_and_cache
from aphrodite.domain.architectures.activation import Activation

HUGGING_FACE_NAMES: dict[Activation, str] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
}


def normal(*shape: int, place: Place, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(place.dtype).to(place.device)


# The interpreter's numpy warns of what the kernel means: exp(100) is infinite, and its sigmoid 0.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@pytest.mark.parametrize("activation", HUGGING_FACE_NAMES)
@pytest.mark.parametrize(("tokens", "inner"), [(1, 1024), (3, 1), (5, 1500)])
def test_gated_activation(tokens: int, inner: int, activation: Activation, place: Place) -> None:
    gate_up = normal(tokens, 2 * inner, place=place) * 3
    gate, up = gate_up.float().chunk(2, dim=-1)
    expected = ACT2FN[HUGGING_FACE_NAMES[activation]](gate) * up
    torch.testing.assert_close(gated_activation(gate_up, activation), expected.to(place.dtype))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 40), (1, 5, 1000)])
def test_quick_gelu(shape: tuple[int, ...], place: Place) -> None:
    x = normal(*shape, place=place) * 3
    expected = ACT2FN["quick_gelu"](x.float()).to(place.dtype)
    found = quick_gelu(x)
    assert found is x
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("tokens", "width"), [(1, 64), (3, 96), (5, 1000)])
def test_add_rms_norm(tokens: int, width: int, place: Place) -> None:
    residual, x = (normal(tokens, width, place=place, seed=seed) for seed in (1, 2))
    weight = normal(width, place=place, seed=3)
    total = residual + x
    normed = add_rms_norm(residual, x, weight, 1e-5)
    assert torch.equal(residual, total)
    torch.testing.assert_close(normed, rms_norm(total, (width,), weight, 1e-5))


def test_rms_norm_of_what_is_there(place: Place) -> None:
    residual, weight = normal(4, 72, place=place), normal(72, place=place, seed=1)
    before = residual.clone()
    torch.testing.assert_close(add_rms_norm(residual, None, weight, 1e-2), rms_norm(before, (72,), weight, 1e-2))
    assert torch.equal(residual, before)


@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(2, 2, 16), (7, 1, 24), (6, 3, 128)])
def test_rotate_and_cache(heads: int, kv_heads: int, head_dim: int, has_norm: bool, place: Place) -> None:
    tokens, slots, max_model_len, eps = 5, 12, 40, 1e-3
    qkv = normal(tokens, heads + 2 * kv_heads, head_dim, place=place)
    positions = torch.tensor([0, 39, 7, 7, 3], dtype=torch.int32)
    kv_slots = torch.tensor([11, 2, 5, 8, 0], dtype=torch.int32)  # the last is the padding's
    frequencies = 10_000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    angles = torch.outer(torch.arange(max_model_len), frequencies)
    cos, sin = (table.to(place.dtype).to(place.device) for table in (angles.cos(), angles.sin()))
    norms = [normal(head_dim, place=place, seed=seed) for seed in (4, 5)] if has_norm else [None, None]
    keys, values = (normal(slots, kv_heads, head_dim, place=place, seed=seed) for seed in (6, 7))

    queries_in, keys_in, values_in = qkv.float().split([heads, kv_heads, kv_heads], dim=1)
    if has_norm:
        queries_in, keys_in = (
            rms_norm(part, (head_dim,), norm.float(), eps)
            for part, norm in zip((queries_in, keys_in), norms, strict=True)
        )
    at = positions.long().to(place.device)
    doubled = [torch.cat((table[at], table[at]), dim=-1).float() for table in (cos, sin)]
    expected_queries, rotated_keys = apply_rotary_pos_emb(queries_in, keys_in, *doubled)
    expected_keys, expected_values = keys.clone(), values.clone()
    expected_keys[kv_slots.long()] = rotated_keys.to(place.dtype)
    expected_values[kv_slots.long()] = values_in.to(place.dtype)

    queries = rotate_and_cache(qkv, cos[at], sin[at], kv_slots.to(place.device), keys, values, *norms, eps)
    torch.testing.assert_close(queries, expected_queries.to(place.dtype))
    torch.testing.assert_close(keys, expected_keys)
    assert torch.equal(values, expected_values)
