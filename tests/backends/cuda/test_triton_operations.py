"""A whole decoder over the Triton kernels, beside the same one over plain torch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.backends.cuda.place import Place
from torch import Tensor

from aphrodite.backends.cuda.decoder import Decoder
from aphrodite.backends.cuda.gpu.kernels.split_workspace import SplitWorkspace
from aphrodite.backends.cuda.gpu.triton_operations import TritonOperations
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.operations import StepOperations, TorchOperations
from aphrodite.backends.cuda.rotary import RotaryTables
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec, ModelSpec, RopeSpec
from aphrodite.domain.architectures.weights import declare_weights
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.flatten import flatten, unpack
from aphrodite.domain.scheduling.step import RowPlan, StepPlan

BLOCK_SIZE = 8
# (start, tokens) of each row: a fresh prompt, then the next chunk beside two rows that decode, then decoding alone.
STEPS = [[(0, 5), (0, 11)], [(5, 1), (11, 1), (0, 7)], [(6, 1), (12, 1), (7, 1)]]

Make = Callable[..., StepOperations]


def spec(*, qk_norm: bool) -> DecoderSpec:
    return DecoderSpec(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=40,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        max_position=64,
        rms_norm_eps=1e-5,
        ropes=(RopeSpec(10000.0), RopeSpec(10000.0, original_max_position=4, amplitude=1.2, query_growth=0.5)),
        activation="silu",
        qkv_bias=not qk_norm,
        output_bias=False,
        mlp_bias=False,
        qk_norm=qk_norm,
        attention=(AttentionSpec(0.3), AttentionSpec(0.2, window=6, softcap=2.0)),
        experts=(None, None),
        tied_embeddings=True,
    )


def run(model: DecoderSpec, weights: dict[str, Tensor], place: Place, make: Make) -> list[Tensor]:
    """The hidden states of every step."""
    cache = KvCache(
        model.num_layers, 16, BLOCK_SIZE, model.num_kv_heads, model.head_dim, place.dtype, place.device
    )  # fmt: skip
    for numbers in (cache.keys, cache.values):
        numbers.fill_(torch.nan)
    tables = RotaryTables(model, model.max_position, place.dtype, place.device)
    decoder = Decoder(model, dict(weights))
    outputs = []
    for number, rows in enumerate(STEPS):
        generator = np.random.default_rng(number)
        plans = [
            RowPlan(
                slot, start, length, generator.integers(0, 50, length, dtype=np.int32),
                np.arange(2 * slot + 1, 2 * slot + 3, dtype=np.int32), False, SamplingParams(), 0,
            )
            for slot, (start, length) in enumerate(rows)
        ]  # fmt: skip
        flat = flatten(StepPlan.of(tuple(plans)), BLOCK_SIZE)
        arrays = unpack(torch.from_numpy(flat.buffer).to(place.device), flat.shape, torch.float32)
        outputs.append(decoder.forward(decoder.embed(arrays.token_ids.long()), make(tables, cache, flat, arrays)))
    return outputs


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_decoder(qk_norm: bool, place: Place) -> None:
    model = spec(qk_norm=qk_norm)
    generator = torch.Generator().manual_seed(0)
    weights = {
        weight.name: torch.randn(weight.shape, generator=generator).mul(0.2).to(place.device, place.dtype)
        for weight in declare_weights(ModelSpec(model))
    }
    workspace = SplitWorkspace.for_multiprocessors(4, 4, 2, 16, model.max_position, place.device)
    with torch.inference_mode():
        plain = run(model, weights, place, lambda tables, cache, flat, arrays: TorchOperations(
            model, tables, cache, flat, arrays))  # fmt: skip
        fused = run(model, weights, place, lambda tables, cache, flat, arrays: TritonOperations(
            model, tables, cache, BLOCK_SIZE, workspace, flat, arrays))  # fmt: skip
    tolerance = 1e-5 if place.dtype == torch.float32 else 3e-2  # a few roundings to eight bits
    for one, other in zip(plain, fused, strict=True):
        torch.testing.assert_close(other, one, atol=tolerance, rtol=tolerance)
