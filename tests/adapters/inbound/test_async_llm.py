"""Answers read while they are made, against those of `LLM`, from an engine in a process of its own."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aphrodite import LLM, AsyncLLM, RequestOutput, SamplingParams
from aphrodite.domain.errors import (
    EngineClosedError,
    EngineDeadError,
    PlaceholderError,
    PromptTooLongError,
    RequestError,
    SamplingParamsError,
)

DEADLINE_S = 60.0
GREEDY = SamplingParams(temperature=0, max_tokens=6)
LONG = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)
QUESTION = "USER: <image>\nWhat is it?\nASSISTANT:"
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %} ASSISTANT:"


def run(folder: Path, test: Callable[[AsyncLLM], Coroutine[Any, Any, None]]) -> None:
    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S), AsyncLLM(str(folder), device="cpu", kv_cache_memory=4 << 20) as llm:
            await test(llm)

    asyncio.run(within_deadline())
    assert multiprocessing.active_children() == []


async def collected(answer: AsyncGenerator[RequestOutput, None]) -> list[RequestOutput]:
    return [output async for output in answer]


def test_answers_are_those_of_the_other_class(llm: LLM, llava_folder: Path, image: Image.Image) -> None:
    sampling = SamplingParams(temperature=0.8, seed=3, max_tokens=8, n=2, logprobs=2, prompt_logprobs=1)
    prompts: list[Any] = [
        "Hello",
        {"prompt_token_ids": [5, 6, 7]},
        {"prompt": QUESTION, "multi_modal_data": {"image": image}},
    ]
    expected = llm.generate(prompts, sampling, use_tqdm=False)
    [chatted] = llm.chat([{"role": "user", "content": "Hello"}], GREEDY, TEMPLATE, use_tqdm=False)

    async def test(other: AsyncLLM) -> None:
        found = await asyncio.gather(*[collected(other.generate(prompt, sampling)) for prompt in prompts])
        for outputs, whole in zip(found, expected, strict=True):
            assert outputs[-1].prompt == whole.prompt
            assert outputs[-1].prompt_token_ids == whole.prompt_token_ids
            for mine, theirs in zip(outputs[-1].outputs, whole.outputs, strict=True):
                assert (mine.text, mine.token_ids, mine.finish_reason) == (
                    theirs.text, theirs.token_ids, theirs.finish_reason,
                )  # fmt: skip
                assert mine.logprobs is not None
                assert len(mine.logprobs) == len(mine.token_ids)
            assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]
            for index in range(2):  # each holds all that came before it
                texts = [output.outputs[index].text for output in outputs]
                lengths = [len(output.outputs[index].token_ids) for output in outputs]
                assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
                assert sorted(lengths) == lengths
                assert set(lengths) >= set(range(1, lengths[-1] + 1))
        outputs = await collected(other.chat([{"role": "user", "content": "Hello"}], GREEDY, TEMPLATE))
        assert outputs[-1].outputs[0].token_ids == chatted.outputs[0].token_ids
        assert outputs[-1].prompt == chatted.prompt
        assert other.decode(other.encode("Hello"), skip_special_tokens=True) == "Hello"

    run(llava_folder, test)


def test_a_stop_string_ends_the_answer(llm: LLM, llava_folder: Path) -> None:
    [whole] = llm.generate("Hello", LONG, use_tqdm=False)
    stop = whole.outputs[0].text[10:14]
    sampling = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True, stop=stop)
    [expected] = llm.generate("Hello", sampling, use_tqdm=False)

    async def test(other: AsyncLLM) -> None:
        last = (await collected(other.generate("Hello", sampling)))[-1].outputs[0]
        assert (last.text, last.stop_reason) == (expected.outputs[0].text, stop)

    run(llava_folder, test)


def test_leaving_the_loop_frees_the_request(llava_folder: Path) -> None:
    async def test(llm: AsyncLLM) -> None:
        async for output in llm.generate("Hello", LONG, request_id="mine"):
            assert output.request_id == "mine"
            assert not output.finished
            break
        task = asyncio.create_task(collected(llm.generate("Hello", LONG)))
        while llm._client.stats.num_running == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        while llm._client.stats.num_running or llm._client.stats.kv_cache_usage:
            await asyncio.sleep(0.01)
        assert (await collected(llm.generate("Hello", GREEDY, request_id="mine")))[-1].finished

    run(llava_folder, test)


def test_wrong_requests_are_typed_and_others_go_on(llava_folder: Path) -> None:
    async def test(llm: AsyncLLM) -> None:
        wrong: list[tuple[AsyncGenerator[RequestOutput, None], type[Exception], str]] = [
            (llm.generate(7), RequestError, "A prompt must be"),  # type: ignore[arg-type]
            (llm.generate(QUESTION), PlaceholderError, "no image"),
            (llm.generate({"prompt_token_ids": [5] * 100_000}), PromptTooLongError, "100001 tokens"),
            (llm.generate("Hi", {"n": 2}), SamplingParamsError, r"SamplingParams\(n=2\)"),  # type: ignore[arg-type]
            (llm.chat([{"content": "Hi"}], chat_template=TEMPLATE), RequestError, "role"),
        ]
        good = llm.generate("Hello", LONG, request_id="a")
        assert len((await anext(good)).outputs[0].token_ids) == 1
        for answer, kind, words in wrong:
            with pytest.raises(kind, match=words):
                await collected(answer)
        with pytest.raises(RequestError, match="A request with the id 'a' is being answered already"):
            await collected(llm.generate("Hello", GREEDY, request_id="a"))
        assert len((await collected(good))[-1].outputs[0].token_ids) == 100

    run(llava_folder, test)


def test_an_engine_that_dies_ends_its_requests_and_comes_back(llava_folder: Path) -> None:
    async def test(llm: AsyncLLM) -> None:
        answer = llm.generate("Hello", LONG)
        await anext(answer)
        for process in multiprocessing.active_children():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGSTOP)  # so that it makes no more of the answer
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineDeadError, match="ask again"):
            await collected(answer)
        while not llm._client.is_healthy:
            await asyncio.sleep(0.05)
        assert (await collected(llm.generate("Hello", GREEDY)))[-1].finished

    run(llava_folder, test)


def test_closed(llava_folder: Path) -> None:
    async def test(llm: AsyncLLM) -> None:
        running = asyncio.create_task(collected(llm.generate("Hello", LONG)))
        while llm._client.stats.num_running == 0:
            await asyncio.sleep(0.01)
        assert "running" in repr(llm)
        await llm.close()
        with pytest.raises(EngineClosedError):
            await running
        with pytest.raises(EngineClosedError, match="This AsyncLLM was closed"):
            await collected(llm.generate("Hello"))
        assert "closed" in repr(llm)

    run(llava_folder, test)


def test_in_a_program_without_a_with(llava_folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
            import asyncio
            from aphrodite import AsyncLLM, SamplingParams

            async def main() -> None:
                llm = AsyncLLM({str(llava_folder)!r}, device="cpu", kv_cache_memory=4 << 20)
                async for output in llm.generate("Hello", SamplingParams(max_tokens=3, ignore_eos=True)):
                    print(len(output.outputs[0].token_ids))
                await llm.close()

            if __name__ == "__main__":
                asyncio.run(main())
        """)
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=240, check=False)
    assert (done.stdout.split(), done.returncode) == (["1", "2", "3"], 0), done.stderr
