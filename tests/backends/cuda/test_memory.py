"""Memory comes back: of failed steps, of warm-ups that do not fit, of engines before this one."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.backends.cuda.place import Place
from tests.builders import tiny_llava
from tests.fakes import LIMITS

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.backends.cuda.backend import CudaBackend, create_backend
from aphrodite.backends.cuda.gpu.graphs import Function
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.memory import cache_bytes
from aphrodite.backends.cuda.warm_up import warm_up_plans
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import CapacityError, StepError
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.step import RowPlan, StepPlan

PLAN = StepPlan.of((RowPlan(0, 0, 2, np.ones(2, np.int32), np.ones(1, np.int32), True, SamplingParams(), 0),))


@pytest.fixture
def backend(tmp_path: Path) -> CudaBackend:
    checkpoint = SafetensorsCheckpoint(tiny_llava(tmp_path))
    config = EngineConfig(model=str(tmp_path), device="cpu", kv_cache_memory=1 << 20, max_num_seqs=2)
    return create_backend(config, read_model(checkpoint.config), checkpoint, None)


def test_a_failed_step_keeps_none_of_its_tensors(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error lives on in the outputs of its requests, and more steps follow."""
    kept = []

    def run_out(hidden: torch.Tensor, *_: object) -> torch.Tensor:
        kept.append(weakref.ref(hidden))
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patched:
        patched.setattr(backend._decoder, "forward", run_out)
        with pytest.raises(StepError, match=r"^The device ran out of memory in this step") as caught:
            backend.launch(PLAN)
    assert caught.value is not None
    assert [one() for one in kept] == [None]
    assert len(backend.launch(PLAN).result().token_ids) == 1


def test_a_warm_up_that_does_not_fit_gives_everything_back(backend: CudaBackend) -> None:
    def run_out(_: Function) -> Function:
        raise torch.OutOfMemoryError

    backend._execution = replace(backend._execution, capture=run_out)
    cache = weakref.ref(backend._cache.numbers)
    with pytest.raises(CapacityError, match="lower max_num_batched_tokens or gpu_memory_utilization") as caught:
        backend.warm_up()
    assert caught.value is not None
    gc.collect()  # which `close` does on a GPU
    assert cache() is None


class FakeMemory:
    """Of a GPU of 100 bytes: torch holds 60, of which 25 are of tensors that are gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outside, self.reserved, self.peak = 0, 60, 90
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100 - self.outside - self.reserved, 100))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: self.hold(35))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: self.reserved)
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: self.peak)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: setattr(self, "peak", self.reserved))

    def hold(self, reserved: int) -> None:
        self.reserved, self.peak = reserved, max(reserved, self.peak)


def test_what_torch_keeps_of_an_engine_before_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeMemory(monkeypatch)
    config = EngineConfig(model="any", gpu_memory_utilization=0.9)
    assert cache_bytes(config, torch.device("cuda"), nullcontext) == 90 - 35


def test_steps_keep_what_they_take_at_their_peak_and_what_lies_outside_of_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = FakeMemory(monkeypatch)

    @contextmanager
    def steps() -> Iterator[None]:
        memory.outside += 3
        memory.hold(35 + 20)
        memory.hold(35 + 8)
        yield
        memory.outside -= 3
        memory.hold(35)

    config = EngineConfig(model="any", gpu_memory_utilization=0.9)
    assert cache_bytes(config, torch.device("cuda"), steps) == 90 - 35 - 20 - 3
    assert cache_bytes(replace(config, kv_cache_memory=7), torch.device("cuda"), steps) == 7


def test_the_cache_is_made_when_what_steps_were_tried_with_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[KvCache]] = []

    class Noted(KvCache):
        def __init__(self, *arguments: Any) -> None:
            gc.collect()
            assert all(one() is None for one in made)
            made.append(weakref.ref(self))
            super().__init__(*arguments)

    def try_and_decide(_: object, __: object, try_steps: Callable[[], AbstractContextManager[None]]) -> int:
        with try_steps():
            assert [one() is not None for one in made] == [True]
        return 1 << 20

    monkeypatch.setattr("aphrodite.backends.cuda.backend.cache_bytes", try_and_decide)
    monkeypatch.setattr("aphrodite.backends.cuda.backend.KvCache", Noted)
    checkpoint = SafetensorsCheckpoint(tiny_llava(tmp_path))
    config = EngineConfig(model=str(tmp_path), device="cpu", max_num_seqs=2)
    backend = create_backend(config, read_model(checkpoint.config), checkpoint, None)
    assert len(made) == 2
    assert backend.limits.num_blocks == backend._cache.numbers.shape[2] > 2
    assert len(backend.launch(PLAN).result().token_ids) == 1


def test_the_largest_steps_are_among_those_that_are_tried() -> None:
    limits = replace(LIMITS, max_num_batched_tokens=64, max_model_len=24, max_num_seqs=5, num_feature_rows=1)
    plans = list(warm_up_plans(limits))
    assert max(plan.num_tokens for plan in plans) == 60
    assert max(plan.num_samples for plan in plans) == 5
    assert max(row.num_tokens for plan in plans for row in plan.prompts) == 24
    everything = [row for plan in plans[-2:] for row in plan.prompts]
    assert all(row.feature_rows is not None and row.sampling.has_penalties for row in everything)
    assert any(row.prompt_targets is not None for row in everything)


def test_prompts_that_see_forward_are_tried_in_every_number_of_rows() -> None:
    limits = replace(LIMITS, max_num_batched_tokens=64, max_model_len=24, max_num_seqs=5)
    forward = [plan for plan in warm_up_plans(limits, sees_forward=True) if plan.prompts[0].visible_until is not None]
    assert [plan.num_rows for plan in forward] == [1, 2, 4, 5]
    assert not any(row.visible_until is not None for plan in warm_up_plans(limits) for row in plan.prompts)


@pytest.mark.parametrize("place", [pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True)
def test_one_engine_after_the_other_on_a_gpu(place: Place) -> None:
    config = EngineConfig(model="any", gpu_memory_utilization=0.9)
    room = cache_bytes(config, place.device, nullcontext)
    cache = torch.empty(room, dtype=torch.uint8, device=place.device)
    del cache
    assert cache_bytes(config, place.device, nullcontext) >= 0.99 * room
