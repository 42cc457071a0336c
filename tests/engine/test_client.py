"""The client and real engine processes: answers, aborts, deaths and ends."""

import asyncio
import hashlib
import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.builders import tiny_text
from tests.engine import engines
from tests.engine.engines import CRASH_TOKEN, FAIL_TOKEN, HANG_TOKEN, KILL_TOKEN, LOST_TOKEN, ROOMY, build
from tests.fakes import IMAGE_TOKEN, fake_span

from aphrodite.domain.errors import (
    EngineClosedError,
    EngineDeadError,
    ModelNotFoundError,
    PromptTooLongError,
    QueueFullError,
    RequestError,
    SamplingParamsError,
    StepError,
)
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.engine import client as client_module
from aphrodite.engine.client import EngineClient
from aphrodite.engine.engine import Engine, EngineRequest
from aphrodite.engine.restarts import RestartPolicy

DEADLINE_S = 20.0
SOON = RestartPolicy(max_deaths=3, first_delay_s=0.01)
HANG_TIMEOUT_S = 3.0
SLOW = partial(build, step_s=0.01)


@pytest.fixture(autouse=True)
def temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where sockets are made. Nothing is left there, nor any process, whatever a test does."""
    tmp_path_factory.getbasetemp()  # pytest's own folders are to stay where they are
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    left = list(folder.glob("aphrodite-*"))  # a backend's libraries may cache there
    shutil.rmtree(folder)
    assert left == []
    assert multiprocessing.active_children() == []


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * DEADLINE_S))


@asynccontextmanager
async def serving(builder: Callable[[], Engine] = build, **options: Any) -> AsyncIterator[EngineClient]:
    client = EngineClient(builder, restarts=SOON, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.shutdown(0.0)


def request(request_id: str, *token_ids: int, n: int = 1, max_tokens: int = 20) -> EngineRequest:
    sampling = SamplingParams(n=n, max_tokens=max_tokens, temperature=0.0)
    return EngineRequest(request_id, list(token_ids) or [20, 21, 22], sampling)


async def collect(client: EngineClient, asked: EngineRequest, into: list[SequenceDelta] | None = None) -> list[int]:
    """The tokens of sequence 0; all deltas go to `into`."""
    deltas = [] if into is None else into
    async for delta in client.submit(asked):
        deltas.append(delta)
    return [token_id for delta in deltas if delta.index == 0 for token_id in delta.token_ids]


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline_s, "it did not come to pass"
        await asyncio.sleep(0.005)


def alone(asked: EngineRequest, engine: Engine) -> list[int]:
    """What an engine in this process answers, for sequence 0."""
    engine.add(asked)
    token_ids = []
    while engine.has_unfinished:
        token_ids += [token_id for delta in engine.step() if delta.index == 0 for token_id in delta.token_ids]
    return token_ids


def signal_engine(number: signal.Signals) -> None:
    (process,) = multiprocessing.active_children()
    assert process.pid is not None
    os.kill(process.pid, number)


def test_concurrent_requests_are_answered_as_each_would_be_alone() -> None:
    async def test() -> None:
        async with serving() as client:
            assert client.is_healthy
            assert client.limits == ROOMY
            asked = [request(str(i), *range(20 + i, 30 + 2 * i), n=1 + i % 3) for i in range(24)]
            deltas: list[SequenceDelta] = []
            await asyncio.gather(*[collect(client, one, deltas) for one in asked])
            for one in asked:
                expected = alone(one, build())
                for index in range(one.sampling.n):
                    mine = [delta for delta in deltas if (delta.request_id, delta.index) == (one.request_id, index)]
                    assert [token_id for delta in mine for token_id in delta.token_ids] == expected
                    assert [delta.finish_reason for delta in mine] == [None] * 19 + ["length"]
            order = [delta.request_id for delta in deltas]
            last_starts = max(order.index(one.request_id) for one in asked)
            assert all(last_starts < len(order) - order[::-1].index(one.request_id) for one in asked)
            assert (client.stats.num_running, client.stats.kv_cache_usage) == (0, 0.0)

    run(test())


def test_a_client_that_goes_away_frees_what_its_request_held() -> None:
    async def test() -> None:
        async with serving(SLOW) as client:
            tasks = [asyncio.create_task(collect(client, request(f"t{i}", n=2, max_tokens=400))) for i in range(8)]
            async with aclosing(client.submit(request("closed", max_tokens=400))) as deltas:
                async for _ in deltas:
                    break
                await until(lambda: client.stats.num_running == 17)
                assert client.stats.kv_cache_usage > 0
            for task in tasks[::2]:
                task.cancel()
            await until(lambda: client.stats.num_running == 8)
            assert (await asyncio.gather(*tasks[::2], return_exceptions=True)).count([]) == 0
            for task in tasks:
                task.cancel()
            await until(lambda: client.stats.num_running == 0)
            assert client.stats.kv_cache_usage == client.stats.num_waiting == 0
            assert len(await collect(client, request("after"))) == 20

    run(test())


def test_requests_that_are_answered_together() -> None:
    async def together(client: EngineClient, asked: list[EngineRequest]) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        async with aclosing(client.submit(*asked)) as deltas:
            async for delta in deltas:
                found.setdefault((delta.request_id, delta.index), []).extend(delta.token_ids)
        return found

    async def test() -> None:
        async with serving(SLOW, max_queue=20) as client:
            asked = [request(str(i), 20 + i, 21, n=2) for i in range(10)]
            answered = asyncio.create_task(together(client, asked))
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):  # all or none
                await together(client, [request("a"), request("b")])
            found = await answered
            assert found == {(one.request_id, i): alone(one, build()) for one in asked for i in range(2)}

            with pytest.raises(PromptTooLongError):  # the others end with the one that is refused
                await together(client, [request("x", max_tokens=400), request("y", *range(512)), request("z")])
            with pytest.raises(RequestError, match="A request with the id 'a' is being answered"):
                await together(client, [request("a"), request("a")])
            async with aclosing(client.submit(request("c", max_tokens=400), request("d", max_tokens=400))) as deltas:
                async for _ in deltas:
                    break
                await until(lambda: client.stats.num_running == 2)
            await until(lambda: client.stats.num_running == client.stats.num_waiting == 0)
            assert client.stats.kv_cache_usage == 0

    run(test())


def test_sequences_are_aborted_one_by_one() -> None:
    async def test() -> None:
        async with serving(SLOW) as client:
            seen: list[int] = []
            async for delta in client.submit(request("a", n=2, max_tokens=400)):
                seen.append(delta.index)
                if len(seen) == 6:
                    client.abort_sequence("a", 0)
                if len(seen) == 20:
                    client.abort_sequence("a", 1)
            assert set(seen[8:]) == {1}
            assert len(seen) < 25
            client.abort_sequence("a", 1)  # ended long ago
            await until(lambda: client.stats.num_running == 0)

            task = asyncio.create_task(collect(client, request("b", max_tokens=400)))
            await until(lambda: client.stats.num_running == 1)
            client.abort_sequence("b", 0)  # by another than the one who waits
            await task

    run(test())


def test_requests_that_cannot_be_answered() -> None:
    async def test() -> None:
        async with serving(SLOW, max_queue=2) as client:
            with pytest.raises(PromptTooLongError, match=r"length is 512 tokens\. However, you requested 513 "):
                await collect(client, request("long", *range(512)))
            with pytest.raises(SamplingParamsError, match="64 bits"):
                await collect(client, request("huge", max_tokens=2**64))
            failed: list[SequenceDelta] = []
            await collect(client, request("step", FAIL_TOKEN), failed)
            assert [str(delta.error) for delta in failed] == ["The step failed."]
            assert isinstance(failed[0].error, StepError)

            tasks = [asyncio.create_task(collect(client, request(name, max_tokens=50))) for name in "ab"]
            await asyncio.sleep(0)
            with pytest.raises(RequestError, match="A request with the id 'a' is being answered already"):
                await collect(client, request("a"))
            with pytest.raises(QueueFullError, match="2 sequences wait already; try again later"):
                await collect(client, request("c"))
            await until(lambda: client.stats.num_running == 2)  # these wait no more
            assert len(await collect(client, request("c"))) == 20
            assert [len(answer) for answer in await asyncio.gather(*tasks)] == [50, 50]

    run(test())


def test_a_huge_image_arrives_whole() -> None:
    async def test() -> None:
        patches = np.random.default_rng(0).integers(0, 256, (65536, 3 * 256), dtype=np.uint8)
        span = fake_span(hashlib.blake2b(patches.tobytes(), digest_size=16).digest(), 1, 6)
        span = replace(span, image=replace(span.image, patches=patches))
        sampling = SamplingParams(max_tokens=5, temperature=0.0)
        asked = EngineRequest("picture", [20, *[IMAGE_TOKEN] * 6, 21], sampling, (span,))
        async with serving() as client:
            assert await collect(client, asked) == alone(asked, build())
            assert client.stats.num_images_encoded == 1

    run(test())


@pytest.mark.parametrize(
    "cause", [None, CRASH_TOKEN, KILL_TOKEN, LOST_TOKEN], ids=["killed", "broke", "killed itself", "lost its device"]
)
def test_a_process_that_dies_under_load_ends_its_requests_and_comes_back(cause: int | None) -> None:
    async def test() -> None:
        async with serving(SLOW) as client:
            tasks = [asyncio.create_task(collect(client, request(str(i), max_tokens=400))) for i in range(16)]
            await until(lambda: client.stats.num_running == 16)
            if cause is None:
                signal_engine(signal.SIGKILL)
            else:
                tasks.append(asyncio.create_task(collect(client, request("last", cause))))
            for error in await asyncio.gather(*tasks, return_exceptions=True):
                assert type(error) is EngineDeadError
                assert str(error) == "The engine's process ended before the request was finished; ask again."
            assert not client.is_healthy
            assert client.stats == EngineStats()
            with pytest.raises(EngineDeadError, match="The engine is being started; try again in a moment"):
                await collect(client, request("early"))
            await until(lambda: client.is_healthy)
            assert await collect(client, request("0")) == alone(request("0"), build())

    run(test())


@pytest.mark.parametrize("cause", ["the step hangs", "it is stopped", "it is stopped while it waits"])
def test_an_engine_that_hangs_is_started_again(cause: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(SLOW, step_timeout_s=HANG_TIMEOUT_S) as client:
            tasks = []
            if cause != "it is stopped while it waits":
                tasks = [asyncio.create_task(collect(client, request(str(i), max_tokens=400))) for i in range(4)]
                await until(lambda: client.stats.num_running == 4)
            if cause == "the step hangs":
                tasks.append(asyncio.create_task(collect(client, request("last", HANG_TOKEN))))
            else:
                signal_engine(signal.SIGSTOP)
            await until(lambda: not client.is_healthy)
            for error in await asyncio.gather(*tasks, return_exceptions=True):
                assert type(error) is EngineDeadError
            await until(lambda: client.is_healthy)
            assert await collect(client, request("0")) == alone(request("0"), build())

    run(test())
    assert "The engine did nothing for 3 seconds and was ended. It is started again in" in caplog.text


def test_a_busy_and_a_waiting_engine_do_not_hang() -> None:
    """Longer than the timeout with nothing to do, and with steps that nothing comes of."""

    async def test() -> None:
        async with serving(partial(build, step_s=0.5), step_timeout_s=HANG_TIMEOUT_S) as client:
            processes = multiprocessing.active_children()
            await asyncio.sleep(HANG_TIMEOUT_S + 1)
            assert len(await collect(client, request("long", *range(20, 120), max_tokens=int(HANG_TIMEOUT_S) * 2 + 2)))
            assert multiprocessing.active_children() == processes

    run(test())


def test_a_server_that_was_stopped_itself_does_not_blame_the_engine() -> None:
    """As Ctrl-Z does it, to both of them."""
    program = textwrap.dedent("""
        import asyncio
        import multiprocessing
        from aphrodite.engine.client import EngineClient
        from tests.engine.engines import build

        async def main() -> None:
            client = EngineClient(build, step_timeout_s=3.0)
            await client.start()
            before = multiprocessing.active_children()
            print("started", flush=True)
            await asyncio.sleep(3)
            assert client.is_healthy
            assert multiprocessing.active_children() == before
            await client.shutdown(0.0)

        if __name__ == "__main__":
            asyncio.run(main())
    """)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, process_group=0)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == b"started\n"
        os.killpg(server.pid, signal.SIGSTOP)
        time.sleep(HANG_TIMEOUT_S + 1)
        os.killpg(server.pid, signal.SIGCONT)
        assert server.wait(DEADLINE_S) == 0
    finally:
        server.stdout.close()
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def test_an_engine_that_is_not_built_again_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MIN_PATIENCE_S", 1.0)
    monkeypatch.setattr(client_module, "_PATIENCE", 1.0)

    async def test() -> None:
        async with serving(partial(engines.build_once_in_time, str(tmp_path / "built"))) as client:
            signal_engine(signal.SIGKILL)
            assert "times in 600 seconds: The engine was not built within" in str(await client.failed())

    run(test())


def test_after_repeated_deaths_it_gives_up_with_the_reason() -> None:
    async def test() -> None:
        async with serving() as client:
            failed = asyncio.create_task(client.failed())
            for _ in range(SOON.max_deaths):
                assert not failed.done()
                await until(lambda: client.is_healthy)
                with pytest.raises(EngineDeadError):
                    await collect(client, request("poison", CRASH_TOKEN))
            reason = "The engine died 3 times in 600 seconds: The engine broke; its log says why."
            assert str(await failed) == reason
            with pytest.raises(EngineDeadError, match="The engine died 3 times in 600 seconds"):
                await collect(client, request("late"))
            assert not client.is_healthy

    run(test())


def test_an_engine_that_cannot_be_built_again_is_given_up_with_the_reason(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(partial(engines.build_once, str(tmp_path / "built"))) as client:
            signal_engine(signal.SIGKILL)
            assert str(await client.failed()) == "The engine died 3 times in 600 seconds: The memory is gone."

    run(test())


@pytest.mark.parametrize(
    ("builder", "kind", "sentence"),
    [
        (engines.build_none, ModelNotFoundError, r"No model is at nowhere/at-all\."),
        (engines.build_badly, EngineDeadError, r"The engine broke; its log says why"),
        (engines.build_deadly, EngineDeadError, r"ended while it was being built \(signal 9, Killed\)\."),
    ],
)
def test_an_engine_that_cannot_be_built(builder: Callable[[], Engine], kind: type[Exception], sentence: str) -> None:
    async def test() -> None:
        client = EngineClient(builder)
        with pytest.raises(kind, match=sentence):
            await client.start()
        assert not client.is_healthy
        await client.shutdown(0.0)

    run(test())


def test_a_process_that_cannot_be_started(temporary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(temporary_folder / "missing"))
        with pytest.raises(EngineDeadError, match=r"process could not be started: .*No such file"):
            await EngineClient(build).start()

    run(test())


def test_the_socket_is_this_users_alone_and_gone_once_it_is_connected(temporary_folder: Path, tmp_path: Path) -> None:
    async def test() -> None:
        started, go_on = tmp_path / "started", tmp_path / "go on"
        client = EngineClient(partial(engines.build_after, str(started), str(go_on)))
        starting = asyncio.create_task(client.start())
        await asyncio.sleep(0)  # begins to start the process, and does not listen to it yet
        (folder,) = temporary_folder.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (path,) = folder.iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as intruder:
            intruder.connect(str(path))
            with suppress(ConnectionError):  # it is thrown out as soon as it speaks
                intruder.sendall(b"\x00hostile bytes" * 1000)
            await until(started.exists)
            await until(lambda: list(temporary_folder.iterdir()) == [])  # long before the engine is built
            go_on.touch()
            await starting
        assert len(await collect(client, request("a"))) == 20
        await client.shutdown(0.0)

    run(test())


def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        starting = asyncio.create_task(EngineClient(partial(engines.build_slowly, str(tmp_path / "started"))).start())
        await until((tmp_path / "started").exists)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert multiprocessing.active_children() == []

    run(test())


def test_shutdown_lets_requests_finish_and_takes_no_more() -> None:
    async def test() -> None:
        async with serving(SLOW) as client:
            tasks = [asyncio.create_task(collect(client, request(str(i)))) for i in range(4)]
            await until(lambda: client.stats.num_running == 4)
            ending = asyncio.create_task(client.shutdown(DEADLINE_S))
            await until(lambda: not client.is_healthy)
            with pytest.raises(EngineClosedError, match="shuts down and takes no more requests"):
                await collect(client, request("late"))
            assert [len(answer) for answer in await asyncio.gather(*tasks)] == [20] * 4
            await ending
            assert multiprocessing.active_children() == []

    run(test())


def test_shutdown_ends_what_does_not_finish_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(SLOW) as client:
            task = asyncio.create_task(collect(client, request("a", max_tokens=400)))
            await until(lambda: client.stats.num_running == 1)
            await client.shutdown(0.05)
            with pytest.raises(EngineClosedError, match="was not finished in time"):
                await task

    run(test())
    assert "1 requests were not finished in 0.05 seconds." in caplog.text


def test_a_program_that_ends_without_shutdown_leaves_nothing(temporary_folder: Path) -> None:
    program = textwrap.dedent("""
        import asyncio
        from aphrodite.engine.client import EngineClient
        from tests.engine.engines import build

        async def main() -> None:
            await EngineClient(build).start()

        if __name__ == "__main__":
            asyncio.run(main())
    """)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(temporary_folder)}
    # The engine's process has the pipe as well: `run` returns when it is gone.
    ended = subprocess.run([sys.executable, "-c", program], env=environment, timeout=DEADLINE_S, stdout=subprocess.PIPE)
    assert ended.returncode == 0


def test_a_real_model_answers_as_it_does_in_process(tmp_path: Path) -> None:
    from aphrodite import bootstrap
    from aphrodite.domain.config import EngineConfig

    folder = str(tiny_text(tmp_path / "model"))
    config = EngineConfig(model=folder, device="cpu", dtype="float32", kv_cache_memory=2**22, max_num_seqs=4)
    asked = [request(str(i), *range(10 + i, 20 + 2 * i)) for i in range(6)]
    _, parts = bootstrap.prepare(config)
    engine = bootstrap.build_engine(parts)
    expected = [alone(one, engine) for one in asked]
    engine.close()

    async def test() -> None:
        async with serving(partial(engines.build_without_tokenizer, parts)) as client:
            assert await asyncio.gather(*[collect(client, one) for one in asked]) == expected
            assert client.stats.kv_cache_usage == 0

    run(test())
