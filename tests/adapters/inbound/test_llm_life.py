"""Threads that share an engine, and its end."""

import threading
from pathlib import Path
from typing import Any

import pytest

from aphrodite import LLM, RequestOutput, SamplingParams
from aphrodite.domain.errors import EngineClosedError

GREEDY = SamplingParams(temperature=0, max_tokens=6)


def test_threads_share_one_engine(llm: LLM) -> None:
    prompts = [[f"Question {thread} {index}" for index in range(4)] for thread in range(4)]
    alone = [llm.generate(mine, GREEDY, use_tqdm=False) for mine in prompts]
    found: dict[int, list[RequestOutput]] = {}

    def ask(thread: int) -> None:
        found[thread] = llm.generate(prompts[thread], GREEDY, use_tqdm=False)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, outputs in enumerate(alone):
        assert [o.outputs[0].token_ids for o in found[index]] == [o.outputs[0].token_ids for o in outputs]


def test_closed(llava_folder: Path) -> None:
    with LLM(str(llava_folder), device="cpu", kv_cache_memory=1 << 20) as llm:
        assert len(llm.generate("Hello", GREEDY, use_tqdm=False)) == 1
    llm.close()
    for call in (llm.generate, llm.chat):
        with pytest.raises(EngineClosedError, match="closed"):
            call([{"role": "user", "content": "Hello"}] if call == llm.chat else "Hello", use_tqdm=False)  # type: ignore[operator]


def test_closed_while_another_thread_asks(llava_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that runs is answered in full, then the engine closes."""
    llm = LLM(str(llava_folder), device="cpu", kv_cache_memory=1 << 20)
    started, closing = threading.Event(), threading.Event()
    step = llm._engine.step

    def step_after_close_was_called() -> Any:
        started.set()
        closing.wait(timeout=10)
        return step()

    monkeypatch.setattr(llm._engine, "step", step_after_close_was_called)
    found: list[RequestOutput] = []
    asking = threading.Thread(target=lambda: found.extend(llm.generate("Hello", GREEDY, use_tqdm=False)), daemon=True)
    asking.start()
    assert started.wait(timeout=10)
    closer = threading.Thread(target=llm.close, daemon=True)
    closer.start()
    closer.join(timeout=0.2)
    closing.set()
    for thread in (asking, closer):
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert [len(output.outputs[0].token_ids) for output in found] == [GREEDY.max_tokens]
    with pytest.raises(EngineClosedError):
        llm.generate("Hello", GREEDY, use_tqdm=False)
