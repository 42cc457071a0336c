from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.backends.cuda.place import Place
from tests.backends.sight import visible_until
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from aphrodite.backends.cuda.gpu.kernels.paged_attention import paged_attention
from aphrodite.backends.cuda.gpu.kernels.split_workspace import SplitWorkspace
from aphrodite.domain.architectures.spec import AttentionSpec
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.flatten import flatten
from aphrodite.domain.scheduling.step import RowPlan, StepPlan
from aphrodite.domain.scheduling.step_arrays import StepArrays, StepShape, unpack

PADDING = 3
MAX_MODEL_LEN = 256


@dataclass(frozen=True)
class Shape:
    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int


@dataclass(frozen=True)
class Step:
    """Rows over a cache in which all but their own keys and values is not a number."""

    queries: Tensor  # [T, H, D]
    keys: Tensor  # [slots, K, D]
    values: Tensor
    arrays: StepArrays[Tensor]
    expected: Tensor  # [T without padding, H, D]
    magnitude: Tensor  # the same of the values' magnitudes


def make_step(
    rows: list[tuple[int, int]], shape: Shape, attention: AttentionSpec, place: Place, *, sees_forward: bool = False
) -> Step:
    """Rows are (start, tokens); those of one token come first. Their blocks lie about in any order."""
    generator = np.random.default_rng(0)
    counts = [-(-(start + tokens) // shape.block_size) for start, tokens in rows]
    order = generator.permutation(np.arange(1, sum(counts) + 3)).astype(np.int32)
    tables = np.split(order[: sum(counts)], np.cumsum(counts)[:-1])
    forward = [visible_until(start, tokens * sees_forward, tokens, generator) for start, tokens in rows]
    plan = StepPlan.of(
        tuple(
            RowPlan(
                slot, start, tokens, np.zeros(tokens, np.int32), table, False, SamplingParams(), 0,
                visible_until=beyond if sees_forward else None,
            )
            for slot, ((start, tokens), table, beyond) in enumerate(zip(rows, tables, forward, strict=True))
        )
    )  # fmt: skip
    flat = flatten(plan, shape.block_size, lambda exact: StepShape(*(size + PADDING for size in exact)))

    def normal(*sizes: int) -> Tensor:
        return torch.from_numpy(generator.normal(size=sizes).astype(np.float32)).to(place.dtype)

    queries = normal(flat.shape.num_tokens, shape.num_heads, shape.head_dim)
    keys = torch.full((len(order) + 1, shape.block_size, shape.num_kv_heads, shape.head_dim), torch.nan).to(place.dtype)
    values = keys.clone()
    expected, magnitude, first = [], [], 0
    for (start, tokens), table, beyond in zip(rows, tables, forward, strict=True):
        length = start + tokens
        positions = np.arange(length)
        row_keys, row_values = (normal(length, shape.num_kv_heads, shape.head_dim) for _ in range(2))
        at = (table[positions // shape.block_size], positions % shape.block_size)
        keys[at], values[at] = row_keys, row_values
        row_queries = queries[first : first + tokens]
        expected.append(attend(row_queries, row_keys, row_values, start, beyond, attention))
        magnitude.append(attend(row_queries, row_keys, row_values.abs(), start, beyond, attention))
        first += tokens
    flattened = (keys.flatten(0, 1), values.flatten(0, 1))
    return Step(
        queries.to(place.device),
        *(part.to(place.device) for part in flattened),
        unpack(torch.from_numpy(flat.buffer).to(place.device), flat.shape, torch.float32),
        torch.cat(expected),
        torch.cat(magnitude),
    )


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, start: int, until: np.ndarray, attention: AttentionSpec
) -> Tensor:
    """One row, in float32: torch's own attention where no score is bounded."""
    seen = torch.arange(len(keys))
    asking = torch.arange(start, len(keys))[:, None]
    mask = (seen <= asking) | (seen < torch.from_numpy(until)[:, None])
    if attention.window is not None:
        mask &= seen > asking - attention.window
    parts = [part.float().transpose(0, 1)[None] for part in (queries, keys, values)]
    if attention.softcap is None:
        attended = scaled_dot_product_attention(*parts, attn_mask=mask, scale=attention.scale, enable_gqa=True)
        return attended[0].transpose(0, 1)
    group = queries.shape[1] // keys.shape[1]
    asked, found, taken = parts[0][0], *(part[0].repeat_interleave(group, 0) for part in parts[1:])
    scores = attention.softcap * torch.tanh(asked @ found.transpose(1, 2) * attention.scale / attention.softcap)
    return (scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ taken).transpose(0, 1)


def check(
    rows: list[tuple[int, int]],
    shape: Shape,
    attention: AttentionSpec,
    place: Place,
    num_multiprocessors: int = 2,
    *,
    sees_forward: bool = False,
) -> None:
    step = make_step(rows, shape, attention, place, sees_forward=sees_forward)
    workspace = SplitWorkspace.for_multiprocessors(
        num_multiprocessors, shape.num_heads, shape.num_kv_heads, shape.head_dim, MAX_MODEL_LEN, place.device
    )
    workspace.buffer.fill_(torch.nan)
    output = torch.full_like(step.queries, 7.0)
    paged_attention(
        step.queries,
        step.keys,
        step.values,
        step.arrays.block_table,
        step.arrays.row_starts,
        step.arrays.kv_lengths,
        shape.block_size,
        attention,
        workspace,
        output,
        has_single_rows=any(tokens == 1 for _, tokens in rows),
        has_chunks=any(tokens > 1 for _, tokens in rows),
        visible_until=step.arrays.visible_until if sees_forward else None,
    )
    tokens = len(step.expected)
    assert_close(output[:tokens].cpu(), step)
    assert (output[tokens:] == 7.0).all()


def assert_close(found: Tensor, step: Step) -> None:
    """Within what the number format's roundings can do.

    Probabilities are rounded for their product with the values: in bfloat16, which has 8 bits, each by 2**-9 of it at
    most, and so the output by 2**-9 of the values' magnitudes. float32 has no such rounding.
    """
    is_exact = found.dtype == torch.float32
    rounding, rtol = (0.0, 1.3e-6) if is_exact else (2**-9, 1.6e-2)  # relative: torch.testing's own
    allowed = 1e-5 + rounding * step.magnitude + rtol * step.expected.abs()
    excess = (found.float() - step.expected).abs() - allowed
    assert (excess <= 0).all(), f"{int((excess > 0).sum())} of {excess.numel()} too far, by {excess.max():.1e} at most"


LAYERS = [
    AttentionSpec(0.25),
    AttentionSpec(0.2, window=1),
    AttentionSpec(0.25, window=11),
    AttentionSpec(0.3, window=11, softcap=1.5),
]
SINGLES = [(0, 1), (1, 1), (40, 1), (99, 1)]
CHUNKS = [(0, 5), (13, 7), (30, 33)]
SHAPES = [
    Shape(num_heads=2, num_kv_heads=2, head_dim=16, block_size=8),
    Shape(num_heads=3, num_kv_heads=3, head_dim=24, block_size=16),
    Shape(num_heads=4, num_kv_heads=2, head_dim=32, block_size=32),
    Shape(num_heads=14, num_kv_heads=2, head_dim=20, block_size=6),
    Shape(num_heads=2, num_kv_heads=1, head_dim=256, block_size=16),
]


@pytest.mark.parametrize("attention", LAYERS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_of_one_token(shape: Shape, attention: AttentionSpec, place: Place) -> None:
    check(SINGLES, shape, attention, place)


@pytest.mark.parametrize("num_multiprocessors", [1, 4, 16])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]], ids=str)
def test_any_number_of_splits(shape: Shape, num_multiprocessors: int, place: Place) -> None:
    check([(0, 1), (200, 1)], shape, LAYERS[0], place, num_multiprocessors)
    check([(33, 1)], shape, AttentionSpec(0.2, window=40), place, num_multiprocessors)


@pytest.mark.parametrize("attention", LAYERS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_of_several_tokens(shape: Shape, attention: AttentionSpec, place: Place) -> None:
    check(CHUNKS, shape, attention, place)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_rows_of_both_kinds(shape: Shape, place: Place) -> None:
    check(SINGLES + CHUNKS, shape, LAYERS[0], place)


@pytest.mark.parametrize("attention", [LAYERS[0], LAYERS[3]], ids=str)
def test_rows_whose_tokens_see_forward(attention: AttentionSpec, place: Place) -> None:
    check([*SINGLES, *CHUNKS, (3, 150)], SHAPES[2], attention, place, sees_forward=True)


def test_a_row_longer_than_a_tile(place: Place) -> None:
    check([(3, 150), (0, 129)], Shape(num_heads=2, num_kv_heads=2, head_dim=16, block_size=16), LAYERS[0], place)


def test_what_rounded_probabilities_do_to_the_output() -> None:
    """Plain torch does what the kernels do in bfloat16: within what is allowed there, past what float32 is held to."""
    shape = Shape(num_heads=2, num_kv_heads=2, head_dim=64, block_size=16)
    place = Place(torch.device("cpu"), torch.bfloat16)
    step = make_step([(0, 256)], shape, AttentionSpec(shape.head_dim**-0.5), place)
    slots = step.arrays.kv_slots[:256].long()
    queries, keys, values = (
        part.float().transpose(0, 1) for part in (step.queries[:256], step.keys[slots], step.values[slots])
    )
    scores = queries @ keys.transpose(1, 2) * shape.head_dim**-0.5
    scores = scores.masked_fill(torch.ones(256, 256).triu(1) > 0, -torch.inf)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    outputs = [
        (kind @ values / weights.sum(-1, keepdim=True)).transpose(0, 1)
        for kind in (weights.bfloat16().float(), weights)
    ]
    rounded, exact = outputs
    assert_close(rounded.bfloat16(), step)
    assert_close(exact, step)
    with pytest.raises(AssertionError, match="too far"):
        assert_close(rounded, step)
