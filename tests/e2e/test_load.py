"""Many clients at once, and clients that go away."""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import openai
from tests.e2e.conftest import MODEL
from tests.e2e.server_process import SMALL, ServerProcess, running
from tests.e2e.test_chat import ask


def test_clients_that_go_away_leave_nothing_behind(server: ServerProcess, images: str) -> None:
    async def one(client: openai.AsyncOpenAI, index: int) -> int:
        leaves = index % 2 == 0
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=ask(f"Question {index}", f"{images}/rgb" if index % 4 < 2 else None),  # type: ignore[arg-type]
            max_tokens=2000 if leaves else 20,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        num_chunks = 0
        async for _ in stream:
            num_chunks += 1
            if leaves and num_chunks == 5:
                await stream.close()
                break
        return num_chunks

    async def everybody() -> tuple[list[int], list[float]]:
        delays: list[float] = []

        async def watch() -> None:
            while True:
                started_s = time.monotonic()
                await asyncio.to_thread(server.get, "/health")
                delays.append(time.monotonic() - started_s)
                await asyncio.sleep(0.02)

        async with openai.AsyncOpenAI(api_key="-", base_url=f"{server.url}/v1", max_retries=0, timeout=120) as client:
            watcher = asyncio.create_task(watch())
            counts = await asyncio.gather(*(one(client, index) for index in range(64)))
            watcher.cancel()
        return list(counts), delays

    counts, delays = asyncio.run(everybody())
    assert [count for index, count in enumerate(counts) if index % 2 == 0] == [5] * 32
    assert all(count > 2 for count in counts)
    assert statistics.median(delays) < 0.5  # measured from a process that is busy itself
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        server.wait_for_metric(name, 0)


def test_among_a_client_s_requests_the_lowest_priority_is_first(checkpoint: Path, tmp_path: Path) -> None:
    ends: list[int] = []

    async def one(client: openai.AsyncOpenAI, priority: int) -> None:
        asked: Any = {"model": MODEL, "max_tokens": 4, "extra_body": {"priority": priority}}
        if priority % 2:
            await client.completions.create(prompt="Hello", **asked)
        else:
            await client.chat.completions.create(messages=ask("Hello"), **asked)
        ends.append(priority)

    async def all_of_them(server: ServerProcess) -> None:
        async with openai.AsyncOpenAI(api_key="-", base_url=f"{server.url}/v1", max_retries=0, timeout=60) as client:
            first = await client.completions.create(
                model=MODEL, prompt="Hi", max_tokens=3000, stream=True, extra_body={"ignore_eos": True}
            )
            tasks = []
            for number, priority in enumerate((5, 4, -2, -1), 1):
                tasks.append(asyncio.create_task(one(client, priority)))
                await asyncio.to_thread(server.wait_for_metric, "num_requests_waiting", number)
            await first.close()
            await asyncio.gather(*tasks)

    args = ("--served-model-name", MODEL, "--max-num-seqs", "1")
    with running(tmp_path / "log", str(checkpoint), *SMALL, *args) as server:
        asyncio.run(all_of_them(server))
    assert ends == [-2, -1, 4, 5]


def test_a_client_that_waits_for_a_whole_answer_goes_away(server: ServerProcess) -> None:
    async def ask_and_leave() -> None:
        async with openai.AsyncOpenAI(api_key="-", base_url=f"{server.url}/v1", max_retries=0) as client:
            asked = client.chat.completions.create(
                model=MODEL,
                messages=ask("Hello"),  # type: ignore[arg-type]
                max_tokens=4000,
                extra_body={"ignore_eos": True},
            )
            task = asyncio.ensure_future(asked)
            while server.metric("num_requests_running") == 0:
                await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(ask_and_leave())
    server.wait_for_metric("kv_cache_usage_perc", 0, within_s=3)  # and not when the answer would have ended
