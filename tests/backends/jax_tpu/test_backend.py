"""The backend behind `LLM`: no compilation in a request, failed steps, refusals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tests.parity.cases import IMAGE_CASES, TEXT_CASES
from tests.parity.comparison import GREEDY, assert_answers
from tests.parity.reference import Reference

from aphrodite import LLM, SamplingParams
from aphrodite.backends.jax_tpu.backend import JaxTpuBackend
from aphrodite.domain.errors import BackendError, CacheLostError, CapacityError, ConfigError, GenerationError

CASES = (*IMAGE_CASES, *TEXT_CASES)
SMALL: dict[str, Any] = {
    "backend": "jax_tpu", "device": "cpu", "max_num_seqs": 4, "max_num_batched_tokens": 16, "kv_cache_memory": 1 << 20
}  # fmt: skip


@pytest.fixture(scope="module")
def llm(llava_folder: Path) -> Iterator[LLM]:
    with LLM(str(llava_folder), **SMALL) as llm:
        yield llm


@pytest.fixture(scope="module")
def theirs(llava_folder: Path) -> Reference:
    return Reference(llava_folder)


def backend_of(llm: LLM) -> JaxTpuBackend:
    backend = llm._engine._backend
    assert isinstance(backend, JaxTpuBackend)
    return backend


def test_nothing_is_compiled_during_a_request(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    compilations: list[str] = []

    def note(event: str, *_: Any, **__: Any) -> None:
        if "compile" in event:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    before = backend_of(llm).num_compiled
    kinds = [
        SamplingParams(temperature=0, max_tokens=5),
        SamplingParams(temperature=0.8, top_p=0.9, top_k=30, min_p=0.01, seed=1, max_tokens=5, logprobs=20),
        SamplingParams(temperature=1, presence_penalty=1, repetition_penalty=1.3, max_tokens=5, prompt_logprobs=3),
        SamplingParams(temperature=1, logit_bias={5: 3.0}, min_tokens=4, stop_token_ids=[7, 9], max_tokens=5, n=2),
    ]
    for size in (1, 2, 5, 8):
        for params in kinds:
            llm.generate([case.inputs for case in CASES[:size]], params, use_tqdm=False)
    assert compilations == []
    assert backend_of(llm).num_compiled == before
    jax.jit(lambda x: x + 1)(np.ones(3))
    assert compilations  # the listener hears
    jax.monitoring.unregister_event_duration_listener(note)


def test_no_program_makes_a_copy_of_the_cache(llm: LLM) -> None:
    backend = backend_of(llm)
    assert 0 < backend._programs.temporary_bytes < backend._cache[0].nbytes


def test_the_environment_chooses_the_backend(llava_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APHRODITE_BACKEND", "jax_tpu")
    with LLM(str(llava_folder), **SMALL | {"backend": "auto"}) as llm:
        assert backend_of(llm).limits.max_num_seqs == 4


def test_more_tokens_held_back_than_there_is_room_for(llm: LLM) -> None:
    ids = list(range(300))
    params = SamplingParams(temperature=0, min_tokens=3, max_tokens=3, stop_token_ids=ids)
    outputs = llm.generate([case.inputs for case in CASES[:4]], params, use_tqdm=False)
    for output in outputs:
        assert all(token_id >= 300 for token_id in output.outputs[0].token_ids[:2])


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("takes_memory", [False, True])
def test_a_failed_step_fails_its_requests_alone(
    takes_memory: bool, llm: LLM, theirs: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(llm)
    assert_answers(llm, theirs, CASES, GREEDY)  # fills the prefix cache
    run = backend._programs.run
    calls = []

    def fail_once(function: str, *arguments: Any) -> Any:
        if function == "forward":
            calls.append(function)
            if len(calls) == 2:
                if takes_memory:
                    run(function, *arguments)
                raise BrokenError
        return run(function, *arguments)

    monkeypatch.setattr(backend._programs, "run", fail_once)
    with pytest.raises(GenerationError) as caught:
        llm.generate([case.inputs for case in CASES], GREEDY, use_tqdm=False)
    assert isinstance(caught.value.__cause__, CacheLostError) == takes_memory
    assert isinstance(caught.value.__cause__.__cause__, BrokenError)  # type: ignore[union-attr]
    finished = [output for output in caught.value.outputs if output is not None]
    assert 4 <= len(finished) < len(CASES)
    for case, output in zip(CASES, caught.value.outputs, strict=True):
        if output is not None:
            assert output.outputs[0].token_ids == theirs.answer(case, 8).token_ids
    assert_answers(llm, theirs, CASES, GREEDY)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"tensor_parallel_size": 64}, BackendError, "64 devices were asked for"),
        ({"tensor_parallel_size": 0}, ConfigError, "tensor_parallel_size"),
        ({"device": "toaster"}, BackendError, "toaster"),
        ({"device": "cpu:7"}, BackendError, "no device 'cpu:7': jax sees"),
        ({"device": "tpu"}, BackendError, "tpu"),
        ({"dtype": "float16"}, BackendError, "float16"),
        ({"kv_cache_memory": 100}, CapacityError, "at least"),
        ({"max_model_len": 500}, CapacityError, "max_model_len is 500"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], error: type[Exception], said: str, llava_folder: Path) -> None:
    with pytest.raises(error, match=said):
        LLM(str(llava_folder), **(SMALL | {"kv_cache_memory": 1 << 18} | options))


def test_another_backend_refuses_to_split(llava_folder: Path) -> None:
    with pytest.raises(BackendError, match="tensor_parallel_size=1"):
        LLM(str(llava_folder), backend="cuda", device="cpu", tensor_parallel_size=2)
