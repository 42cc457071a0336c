"""Decode steps from fixed memory, padded to a graph's size, beside the same steps run as they come.

In the interpreter nothing is captured: what a graph would record is called each time, over the same memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.backends.cuda.place import Place
from tests.builders import tiny_llava

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.backends.cuda import backend as backend_module
from aphrodite.backends.cuda.backend import CudaBackend, create_backend
from aphrodite.backends.cuda.choice import Execution, triton_execution
from aphrodite.backends.cuda.gpu.graphs import Capture, CudaCapture, Function
from aphrodite.backends.cuda.gpu.kernels.split_workspace import SplitWorkspace
from aphrodite.backends.cuda.operations import TorchOperations
from aphrodite.backends.cuda.sampler import choose_tokens
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.ports import PendingStep
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.allowed_tokens import AllowedTokens, num_bit_words
from aphrodite.domain.scheduling.bias import NO_CHANGES
from aphrodite.domain.scheduling.step import RowPlan, SlotStart, StepPlan, StepResult

NORMALIZATION = PixelNormalization(1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BLOCK_SIZE = 4
MAX_SEQS = 5  # graphs of 1, 2, 4 and 5 rows
NUM_BLOCKS = 8  # of a sequence
GREEDY = SamplingParams(temperature=0)
KINDS = [
    GREEDY,
    SamplingParams(temperature=0.8, top_k=20, top_p=0.9),
    SamplingParams(temperature=0, repetition_penalty=1.3, presence_penalty=0.4),
    SamplingParams(temperature=1.2, min_p=0.05, typical_p=0.9, logit_bias={7: 2.5}),
    SamplingParams(temperature=0, logprobs=3),
]
Create = Callable[[Capture | None], CudaBackend]
"""A backend of Triton kernels that captures its graphs so, or one in plain torch."""


@pytest.fixture(autouse=True)
def padding_may_hold_anything() -> Iterator[None]:
    """Attention leaves the output of padding as the memory was, and numpy would warn of what is computed from that."""
    with np.errstate(over="ignore", invalid="ignore"):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_llava(tmp_path_factory.mktemp("llava")))


@pytest.fixture
def create(folder: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Create]:
    made: list[CudaBackend] = []
    config = EngineConfig(
        model=str(folder),
        device=place.device.type,
        dtype="float32",
        block_size=BLOCK_SIZE,
        max_model_len=NUM_BLOCKS * BLOCK_SIZE,
        max_num_seqs=MAX_SEQS,
        max_num_batched_tokens=2 * MAX_SEQS,
        kv_cache_memory=8 << 20,
    )

    def make(capture: Capture | None) -> CudaBackend:
        def choose(spec: Any, tables: Any, cache: Any, block_size: int, max_model_len: int, device: Any) -> Execution:
            if capture is None:
                return Execution("plain torch", partial(TorchOperations, spec, tables, cache), choose_tokens, None)
            workspace = SplitWorkspace.for_multiprocessors(
                4, spec.num_heads, spec.num_kv_heads, spec.head_dim, max_model_len, device
            )
            return triton_execution(spec, tables, cache, block_size, workspace, capture)

        monkeypatch.setattr(backend_module, "choose_execution", choose)
        checkpoint = SafetensorsCheckpoint(folder)
        backend = create_backend(config, read_model(checkpoint.config), checkpoint, NORMALIZATION)
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


def capture_for(place: Place) -> Capture:
    def call_again(function: Function) -> Function:
        return function

    return CudaCapture(place.device) if place.device.type == "cuda" else call_again


def sequence(slot: int, start: int, token_ids: list[int] | None, kind: SamplingParams, *, first: bool) -> RowPlan:
    """A row of the sequence of a slot, which has blocks of its own; without token ids it goes on from its last."""
    num_tokens = 1 if token_ids is None else len(token_ids)
    blocks = 1 + slot * NUM_BLOCKS + np.arange(-(-(start + num_tokens) // BLOCK_SIZE), dtype=np.int32)
    return RowPlan(
        slot=slot,
        start=start,
        num_tokens=num_tokens,
        token_ids=None if token_ids is None else np.array(token_ids, np.int32),
        block_ids=blocks,
        samples=True,
        sampling=kind,
        seed=100 + slot,
        suppressed_token_ids=(2, 3) if slot % 3 == 0 else (),
        slot_start=SlotStart(np.array(token_ids, np.int32), np.zeros(0, np.int32)) if first else None,
    )


def generate(backend: CudaBackend, slots: list[int], num_steps: int) -> list[StepResult]:
    """Prompts of mixed lengths, and steps of one token each, all of them in flight at once."""
    return [one.result() for one in launch(backend, slots, num_steps)]


def launch(backend: CudaBackend, slots: list[int], num_steps: int) -> list[PendingStep]:
    lengths = {slot: 1 + 5 * slot % 19 for slot in slots}
    prompts = {slot: np.random.default_rng(slot).integers(0, 300, lengths[slot]).tolist() for slot in slots}
    kinds = {slot: KINDS[slot % len(KINDS)] for slot in slots}
    ordered = sorted(slots, key=lambda slot: lengths[slot] > 1)
    plans = [StepPlan.of(tuple(sequence(slot, 0, prompts[slot], kinds[slot], first=True) for slot in ordered))]
    for step in range(num_steps):
        rows = (sequence(slot, lengths[slot] + step, None, kinds[slot], first=False) for slot in slots)
        plans.append(StepPlan.of(tuple(rows)))
    return [backend.launch(plan) for plan in plans]


def assert_same(results: list[StepResult], expected: list[StepResult]) -> None:
    for found, wanted in zip(results, expected, strict=True):
        assert found.token_ids.tolist() == wanted.token_ids.tolist()
        assert (found.logprobs is None) == (wanted.logprobs is None)
        if found.logprobs is not None and wanted.logprobs is not None:
            np.testing.assert_allclose(found.logprobs.chosen, wanted.logprobs.chosen, atol=1e-4)
            assert found.logprobs.top_token_ids.tolist() == wanted.logprobs.top_token_ids.tolist()


def test_steps_under_graphs_sample_what_they_sample_without(create: Create, place: Place) -> None:
    eager, graphs = create(None), create(capture_for(place))
    graphs.warm_up()
    # On either side of a graph's size, and back to fewer rows in the same memory.
    for slots in ([4], [3, 0, 2], [4, 3, 2, 1, 0], [1, 4]):
        assert_same(generate(graphs, slots, 3), generate(eager, slots, 3))


def test_a_held_step_draws_what_is_allowed_under_a_graph(create: Create, place: Place) -> None:
    eager, graphs = create(None), create(capture_for(place))
    graphs.warm_up()
    vocab_size, rng = graphs._model.decoder.vocab_size, np.random.default_rng(0)
    bits = rng.integers(0, 2**31, (2, num_bit_words(vocab_size)), dtype=np.int32)
    allowed = AllowedTokens(np.array([0, 2], np.int32), bits)
    drawn = []
    for backend in (eager, graphs):
        for pending in launch(backend, [0, 1, 2], 0):
            pending.result()
        rows = [sequence(slot, 1 + 5 * slot % 19, None, KINDS[slot], first=False) for slot in range(3)]
        held = backend.hold(StepPlan.of(tuple(rows)))
        drawn.append(held.draw(allowed, NO_CHANGES).result().token_ids.tolist())
    assert drawn[0] == drawn[1]
    for row, sample in enumerate(allowed.samples.tolist()):
        token_id = drawn[0][sample]
        assert bits[row, token_id // 32] >> token_id % 32 & 1


@pytest.mark.slow
def test_which_steps_have_a_graph(create: Create, place: Place) -> None:
    backend = create(capture_for(place))
    decode = sequence(0, 5, None, GREEDY, first=False)
    assert backend._decode_graphs.shape(StepPlan.of((decode,))) is None  # not captured yet
    backend.warm_up()

    def size(*rows: RowPlan) -> int | None:
        shape = backend._decode_graphs.shape(StepPlan.of(rows))
        return None if shape is None else shape.num_rows

    prompt = sequence(1, 4, [5], GREEDY, first=True)
    assert [size(*[decode] * count) for count in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, 5]
    assert size(*[decode] * 6) is None
    assert size(decode, sequence(1, 0, [5, 6], GREEDY, first=True)) is None
    assert size(sequence(1, 4, [5], SamplingParams(prompt_logprobs=1), first=True)) == 1
    assert size(replace(prompt, feature_rows=np.zeros(1, np.int32))) is None
    assert size(replace(prompt, prompt_targets=np.array([3], np.int32))) is None


@pytest.mark.slow
def test_a_row_that_only_fills_the_cache(create: Create, place: Place) -> None:
    eager, graphs = create(None), create(capture_for(place))
    graphs.warm_up()
    rows = [replace(sequence(slot, 0, [7 + slot], GREEDY, first=True), samples=slot == 1) for slot in range(3)]
    [expected], [found] = ([backend.launch(StepPlan.of(tuple(rows))).result()] for backend in (eager, graphs))
    assert found.token_ids.shape == (1,)
    assert_same([found], [expected])
    nothing = StepPlan.of((replace(rows[0], samples=False),))
    assert graphs.launch(nothing).result().token_ids.shape == (0,)


def test_a_launch_never_waits_for_the_device(create: Create, place: Place) -> None:
    if place.device.type != "cuda":
        pytest.skip("the interpreter has no device to wait for")
    backend = create(capture_for(place))
    backend.warm_up()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = launch(backend, list(range(MAX_SEQS)), 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(len(one.result().token_ids) == MAX_SEQS for one in pending)
