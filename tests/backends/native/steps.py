"""Steps for the tests of the C++ kernels."""

import numpy as np
import torch
from tests.backends.sight import visible_until

from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec, RopeSpec
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.flatten import FlatStep, flatten, unpack
from aphrodite.domain.scheduling.step import RowPlan, StepPlan
from aphrodite.domain.scheduling.step_arrays import StepArrays

Rows = list[tuple[int, int]]
"""(start, tokens) of each row."""
MAX_POSITION = 40
VOCAB_SIZE = 50


def spec(heads: tuple[int, int], head_dim: int, activation: Activation, *, qk_norm: bool) -> DecoderSpec:
    num_heads, num_kv_heads = heads
    return DecoderSpec(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=40,
        num_layers=2,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position=MAX_POSITION,
        rms_norm_eps=1e-5,
        ropes=(RopeSpec(10000.0), RopeSpec(10000.0, original_max_position=4, amplitude=1.2, query_growth=0.5)),
        activation=activation,
        qkv_bias=not qk_norm,
        output_bias=False,
        mlp_bias=False,
        qk_norm=qk_norm,
        attention=(AttentionSpec(0.3), AttentionSpec(0.2, window=6, softcap=2.0)),
        experts=(None, None),
        tied_embeddings=True,
    )


def make_step(
    rows: Rows, block_size: int, generator: np.random.Generator, *, sees_forward: bool = False
) -> tuple[FlatStep, StepArrays[torch.Tensor]]:
    """Rows of random tokens, those of one token first; each has its own blocks, in falling order."""
    num_blocks = -(-MAX_POSITION // block_size)
    plans = []
    for slot, (start, length) in enumerate(rows):
        blocks = np.arange((slot + 1) * num_blocks, slot * num_blocks, -1, dtype=np.int32)
        token_ids = generator.integers(0, VOCAB_SIZE, length, dtype=np.int32)
        needed = blocks[: -(-(start + length) // block_size)]
        beyond = visible_until(start, length, length, generator) if sees_forward and length > 1 else None
        plans.append(RowPlan(slot, start, length, token_ids, needed, False, SamplingParams(), 0, visible_until=beyond))
    flat = flatten(StepPlan.of(tuple(plans)), block_size)
    return flat, unpack(torch.from_numpy(flat.buffer), flat.shape, torch.float32)
