"""Steps that fail on the device, and Ctrl-C: the others' answers are kept, and the engine goes on."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aphrodite import LLM, SamplingParams
from aphrodite.backends.cuda.decoder import Decoder
from aphrodite.backends.cuda.pending import DevicePendingStep
from aphrodite.backends.cuda.vision import VisionTower
from aphrodite.domain.errors import GenerationError, StepError
from aphrodite.inputs import TextPrompt

GREEDY = SamplingParams(temperature=0, max_tokens=6)
PLACES = ((VisionTower, "encode"), (Decoder, "forward"), (Decoder, "logits"), (DevicePendingStep, "result"))


def picture(seed: int) -> TextPrompt:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    return {"prompt": "USER: <image>\nWhat is it?\nASSISTANT:", "multi_modal_data": {"image": Image.fromarray(pixels)}}


PROMPTS = [picture(1), picture(2), "Hello", picture(1)]


@pytest.fixture(params=[1, 2])
def llm(request: pytest.FixtureRequest, llava_folder: Path) -> Iterator[LLM]:
    """An engine that has remembered nothing yet, with one or two steps in flight."""
    with LLM(str(llava_folder), device="cpu", kv_cache_memory=1 << 20) as built:
        backend = built._engine._backend
        backend.limits = replace(backend.limits, max_steps_in_flight=request.param)
        yield built


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets call number `call` of a method raise, counted from 0, and no other."""

    def prepare(place: tuple[type, str], call: int, error: BaseException) -> None:
        original = getattr(*place)
        calls = iter(range(10**6))

        def replaced(*args: Any) -> Any:
            if next(calls) == call:
                raise error
            return original(*args)

        monkeypatch.setattr(*place, replaced)

    return prepare


def answers(llm: LLM) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in llm.generate(PROMPTS, GREEDY, use_tqdm=False)]


def assert_idle(llm: LLM) -> None:
    scheduler = llm._engine.scheduler
    assert not llm._engine.has_unfinished
    assert (scheduler.num_running, scheduler.num_waiting, scheduler.pool.num_used) == (0, 0, 0)


@pytest.fixture(scope="module")
def expected(llava_folder: Path) -> list[list[int]]:
    with LLM(str(llava_folder), device="cpu", kv_cache_memory=1 << 20) as llm:
        return answers(llm)


@pytest.mark.parametrize("call", [0, 2])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_failed_step(
    place: tuple[type, str], call: int, llm: LLM, fail: Callable[..., None], expected: list[list[int]]
) -> None:
    if place == (VisionTower, "encode"):
        call = 0  # called once
    error = StepError("out of order") if place[1] == "result" else RuntimeError("out of order")
    fail(place, call, error)
    num_failed = 4 if call else 3  # the last prompt waits for the blocks that the first one's step would have made
    with pytest.raises(GenerationError, match=rf"^{num_failed} of 4 requests failed: ") as caught:
        answers(llm)
    outputs = [output and output.outputs[0].token_ids for output in caught.value.outputs]
    assert outputs == [None] * num_failed + expected[num_failed:]
    assert isinstance(caught.value.__cause__, StepError)
    assert_idle(llm)
    assert answers(llm) == expected
    assert answers(llm) == expected
    assert_idle(llm)


@pytest.mark.parametrize("place", PLACES[:3], ids=str)
def test_the_others_outputs_are_in_the_error(
    place: tuple[type, str], llava_folder: Path, fail: Callable[..., None], expected: list[list[int]]
) -> None:
    """One at a time: only the second prompt's step fails."""
    fail(place, 1 if place[0] is VisionTower else GREEDY.max_tokens, RuntimeError("out of order"))
    with LLM(str(llava_folder), device="cpu", kv_cache_memory=1 << 20, max_num_seqs=1) as llm:
        with pytest.raises(GenerationError, match=r"^1 of 4 requests failed: The step failed on the device") as caught:
            answers(llm)
        assert [output and output.outputs[0].token_ids for output in caught.value.outputs] == [
            expected[0], None, expected[2], expected[3],
        ]  # fmt: skip
        assert answers(llm) == expected


def test_one_completion_of_several_fails(llm: LLM, fail: Callable[..., None], expected: list[list[int]]) -> None:
    """The first completion ends early, its followers fail: the prompt has no answer."""
    fail((Decoder, "forward"), 3, RuntimeError("out of order"))
    with pytest.raises(GenerationError) as caught:
        llm.generate(PROMPTS[:1], replace(GREEDY, n=3), use_tqdm=False)
    assert caught.value.outputs == [None]
    assert_idle(llm)
    assert answers(llm) == expected


@pytest.mark.parametrize("call", [0, 2])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_ctrl_c(
    place: tuple[type, str], call: int, llm: LLM, fail: Callable[..., None], expected: list[list[int]]
) -> None:
    if place == (VisionTower, "encode"):
        call = 0  # called once
    fail(place, call, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        answers(llm)
    assert_idle(llm)
    assert answers(llm) == expected
    assert answers(llm) == expected
    assert_idle(llm)
