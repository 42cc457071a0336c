"""The C++ kernels beside the same operations in plain torch, alone and in a whole decoder."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.backends.native.steps import MAX_POSITION, Rows, make_step, spec
from torch import Tensor

from aphrodite.backends.cuda.cpu.kernels import NativeKernels
from aphrodite.backends.cuda.cpu.native_operations import NativeOperations
from aphrodite.backends.cuda.cpu.rows import native_softmax
from aphrodite.backends.cuda.decoder import Decoder
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.operations import StepOperations, TorchOperations
from aphrodite.backends.cuda.rotary import RotaryTables
from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec, ModelSpec
from aphrodite.domain.architectures.weights import declare_weights
from aphrodite.domain.scheduling.flatten import FlatStep
from aphrodite.domain.scheduling.step_arrays import StepArrays

FORMATS = [torch.float32, torch.bfloat16]
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 3e-2}  # of bfloat16: a few roundings to eight bits

Make = Callable[[DecoderSpec, RotaryTables, KvCache, FlatStep, StepArrays[Tensor]], StepOperations]


def native(
    model: DecoderSpec, tables: RotaryTables, cache: KvCache, flat: FlatStep, arrays: StepArrays[Tensor]
) -> StepOperations:
    kernels, softmax = (
        NativeKernels.create(cache.numbers.dtype, model.num_heads, cache),
        native_softmax(cache.numbers.dtype),
    )
    assert kernels is not None, "these tests need a C++ compiler"
    assert softmax is not None
    return NativeOperations(model, tables, cache, kernels, softmax, flat, arrays)


def run(
    model: DecoderSpec, steps: list[Rows], dtype: torch.dtype, block_size: int, make: Make, *, sees_forward: bool
) -> list[Tensor]:
    """The hidden states of every step, over a cache that at first holds no numbers."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        weight.name: torch.randn(weight.shape, generator=generator).mul(0.2).to(dtype)
        for weight in declare_weights(ModelSpec(model))
    }
    shape = (model.num_layers, 4 * MAX_POSITION + 1, block_size, model.num_kv_heads, model.head_dim)
    cache = KvCache(*shape, dtype, torch.device("cpu"))
    cache.numbers.fill_(torch.nan)
    tables = RotaryTables(model, model.max_position, dtype, torch.device("cpu"))
    decoder = Decoder(model, weights)
    outputs = []
    with torch.inference_mode():
        for number, rows in enumerate(steps):
            flat, arrays = make_step(rows, block_size, np.random.default_rng(number), sees_forward=sees_forward)
            embedded = decoder.embed(arrays.token_ids.long())
            outputs.append(decoder.forward(embedded, make(model, tables, cache, flat, arrays)))
    return outputs


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("qk_norm", [False, True])
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    num_more=st.integers(1, 16),
    num_decode_steps=st.integers(1, 4),
    block_size=st.sampled_from([1, 3, 16]),
    head_dim=st.sampled_from([8, 32, 64, 128, 256]),
    heads=st.sampled_from([(1, 1), (4, 2), (3, 1), (6, 6)]),
    activation=st.sampled_from(["silu", "gelu"]),
    sees_forward=st.booleans(),
)
def test_a_decoder(
    dtype: torch.dtype,
    qk_norm: bool,
    lengths: list[int],
    num_more: int,
    num_decode_steps: int,
    block_size: int,
    head_dim: int,
    heads: tuple[int, int],
    activation: Activation,
    sees_forward: bool,
) -> None:
    """Prompts of these lengths, more tokens of each, then one by one; one layer looks at all before it, one at six."""
    model = spec(heads, head_dim, activation, qk_norm=qk_norm)
    lengths = sorted(lengths)  # as a step has them: rows of one token first
    steps = [[(0, length) for length in lengths], [(length, num_more) for length in lengths]]
    steps += [[(length + num_more + number, 1) for length in lengths] for number in range(num_decode_steps)]
    expected, got = (
        run(model, steps, dtype, block_size, make, sees_forward=sees_forward) for make in (TorchOperations, native)
    )
    tolerance = TOLERANCES[dtype]
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(other, one, atol=tolerance * one.float().abs().max().item(), rtol=tolerance)


def test_large_sums_and_scores_stay_numbers() -> None:
    """Scores far from zero neither overflow nor lose the largest."""
    cache = KvCache(1, 4, 4, 1, 32, torch.float32, torch.device("cpu"))
    kernels = NativeKernels.create(torch.float32, 2, cache)
    assert kernels is not None
    keys = torch.linspace(-100, 100, 12)[:, None].expand(12, 32)  # of blocks 1 to 3
    cache.numbers[0, 0, 1:, 0] = keys.reshape(3, 4, 32)
    cache.numbers[0, 1, 1:, 0] = torch.arange(12.0)[:, None].expand(12, 32).reshape(3, 4, 32)
    queries, output = torch.stack((torch.full((32,), 50.0), torch.full((32,), -50.0)))[None], torch.empty(1, 2, 32)
    table, lengths = torch.tensor([[1, 2, 3]], dtype=torch.int32), torch.tensor([12], dtype=torch.int32)
    kernels.attend_rows(0, queries, table, lengths, AttentionSpec(1.0), output)
    torch.testing.assert_close(output[0, :, 0], torch.tensor([11.0, 0.0]))
    x = torch.tensor([[1e4, -1e4, 90.0, -90.0, 0.0, *[1.0] * 5]])
    torch.testing.assert_close(kernels.gate_silu(x), torch.nn.functional.silu(x[:, :5]) * x[:, 5:])


def test_weights_of_far_scores_are_as_exact_as_those_of_near_ones() -> None:
    softmax = native_softmax(torch.float32)
    assert softmax is not None
    scores = torch.stack((torch.linspace(-87, 0, 20001), torch.zeros(20001)), dim=-1)[None]
    weights = softmax(scores.clone(), 1.0, None, None)
    torch.testing.assert_close(weights.double(), scores.double().softmax(-1), atol=0, rtol=1e-6)
