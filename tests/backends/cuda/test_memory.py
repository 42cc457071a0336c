"""Memory comes back: of failed steps, of warm-ups that do not fit, of engines before this one."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.backends.cuda.place import Place
from tests.builders import tiny_llava

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.backends.cuda.backend import CudaBackend, create_backend
from aphrodite.backends.cuda.gpu.graphs import Function
from aphrodite.backends.cuda.memory import free_bytes
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

    def run_out(hidden: torch.Tensor, _: object) -> torch.Tensor:
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


def test_what_torch_keeps_of_an_engine_before_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 of 100 bytes are used, 25 of them by tensors that are gone."""
    free = [40]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free[0], 100))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: free.__setitem__(0, 65))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 60)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 90)
    assert free_bytes(EngineConfig(model="any", gpu_memory_utilization=0.9), torch.device("cuda")) == 55


@pytest.mark.parametrize("place", [pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True)
def test_one_engine_after_the_other_on_a_gpu(place: Place) -> None:
    config = EngineConfig(model="any", gpu_memory_utilization=0.9)
    room = free_bytes(config, place.device)
    cache = torch.empty(room, dtype=torch.uint8, device=place.device)
    del cache
    assert free_bytes(config, place.device) >= 0.99 * room
