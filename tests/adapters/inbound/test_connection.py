"""Connections over real sockets: what HTTP asks of a server, and the limits on what a client may do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from aphrodite.adapters.inbound.http import connection as module
from aphrodite.adapters.inbound.http.connection import Connection
from aphrodite.adapters.inbound.http.connections import Connections


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


async def pieces(request: Request) -> Response:
    async def some() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    return StreamingResponse(some())


async def large(request: Request) -> Response:
    return Response(b"x" * 8_000_000)


async def early(request: Request) -> Response:
    """Answers before the body is there."""
    return PlainTextResponse("too early")


async def forever(request: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


APP = Starlette(
    routes=[Route(f"/{act.__name__}", act, methods=["GET", "POST"]) for act in (echo, pieces, large, early, forever)]
)


@dataclass
class Peer:
    """A client's end, as bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(data)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer; status 0 where the server closed instead."""
        try:
            head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, {}, b""
        first, *lines = head.decode().split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif "transfer-encoding" in headers:
            body = await self.reader.readuntil(b"0\r\n\r\n")
        else:
            body = await self.reader.read()
        return int(first.split()[1]), headers, body

    async def is_closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except ConnectionError:
            return True


class Listening:
    """A server with some limits; `peer` connects to it, from an address of one's own."""

    def __init__(self, server: asyncio.Server) -> None:
        self._place = server.sockets[0].getsockname()
        self._peers: list[Peer] = []

    async def peer(self, source: str = "127.0.0.1") -> Peer:
        made = Peer(*await asyncio.open_connection(*self._place, local_addr=(source, 0)))
        self._peers.append(made)
        return made

    def close(self) -> None:
        for peer in self._peers:
            peer.writer.close()


@asynccontextmanager
async def listening(max_open: int = 100, max_per_address: int = 100) -> AsyncIterator[Listening]:
    config = uvicorn.Config(APP, ws="none", lifespan="off", log_config=None)
    config.load()
    state, connections = ServerState(), Connections(max_open, max_per_address)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(config, state, {}, connections=connections), "127.0.0.1", 0
    )
    clients = Listening(server)
    try:
        yield clients
    finally:
        clients.close()
        server.close()
        for task in set(state.tasks):
            task.cancel()
        if state.tasks:
            await asyncio.wait(set(state.tasks))
        for open_connection in list(state.connections):
            open_connection.transport.abort()
        await asyncio.sleep(0)


def talk(*requests: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Answers to requests, one after the other on one connection."""

    async def run() -> list[tuple[int, dict[str, str], bytes]]:
        async with listening() as server:
            peer = await server.peer()
            return [await peer.ask(request) for request in requests]

    return asyncio.run(run())


def test_requests_one_after_the_other() -> None:
    post = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab"
    chunked = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    head = b"HEAD /pieces HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    answers = talk(post, chunked, b"GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n", post)
    assert [(status, body) for status, _, body in answers] == [
        (200, b"ab"),
        (200, b"ab"),
        (200, b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"),
        (200, b"ab"),
    ]
    [(status, headers, _)] = talk(
        head.replace(b"1.1", b"1.1", 1).replace(b"test\r\n", b"test\r\nConnection: close\r\n")
    )
    assert status == 200
    assert "transfer-encoding" not in headers


def test_http_1_0_gets_no_chunks() -> None:
    [(status, headers, body)] = talk(b"GET /pieces HTTP/1.0\r\n\r\n")
    assert (status, body) == (200, b"one two")
    assert "transfer-encoding" not in headers
    assert headers["connection"] == "close"


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: a\r\n"])
def test_one_host_it_must_be(hosts: bytes) -> None:
    [(status, _, body)] = talk(b"GET /echo HTTP/1.1\r\n" + hosts + b"\r\n")
    assert status == 400
    assert json.loads(body)["error"]["message"] == "A request needs one Host header."


@pytest.mark.parametrize(
    "head",
    [
        b"GET /echo?" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: test\r\n" + b"A: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: test\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"GET /echo HTTP/1.1\r\nHost: test\r\nA: " + b"a" * 800_000,
        b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 800_000,
        b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"a" * 800_000,
    ],
    ids=["url", "long", "many", "endless", "endless chunk", "endless trailer"],
)
def test_headers_have_an_end(head: bytes) -> None:
    [(status, _, body)] = talk(head)
    assert status == 431
    assert json.loads(body)["error"]["code"] == "headers_too_large"


def test_a_body_in_chunks_of_one_byte_is_a_body() -> None:
    size = 300_000
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    [(status, _, body)] = talk(head + b"1\r\nx\r\n" * size + b"0\r\n\r\n")
    assert (status, body) == (200, b"x" * size)


def test_an_answer_before_the_body_is_seen_although_the_body_goes_on() -> None:
    async def run() -> None:
        async with listening() as server:
            peer = await server.peer()
            peer.writer.write(b"POST /early HTTP/1.1\r\nHost: test\r\nContent-Length: 10000000\r\n\r\n")
            for _ in range(100):
                peer.writer.write(b"x" * 10_000)
                await asyncio.sleep(0)
            status, headers, body = await peer.answer()
            assert (status, headers["connection"], body) == (200, "close", b"too early")

    asyncio.run(run())


def test_a_request_before_the_last_answer_ends_the_connection_after_it() -> None:
    async def run() -> None:
        async with listening() as server:
            peer = await server.peer()
            get = b"GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n"
            status, headers, _ = await peer.ask(get * 1000)
            assert (status, headers["connection"]) == (200, "close")
            assert await peer.is_closed()

    asyncio.run(run())


def test_an_upgrade_that_is_not_followed_is_no_mistake() -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    [(status, _, body)] = talk(b"GET /pieces HTTP/1.1\r\nHost: test\r\n" + upgrade + b"\r\n")
    assert (status, body) == (200, b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")
    [(status, _, body)] = talk(b"POST /echo HTTP/1.1\r\nHost: test\r\n" + upgrade + b"Content-Length: 2\r\n\r\nab")
    assert (status, b"HTTP/1.1" in body) == (400, True)


@pytest.mark.parametrize(
    "said",
    [b"", b"GET", b"GET / HTTP/1.1\r\nHost: te", b"\r\n"],
)
def test_who_does_not_end_his_headers_is_not_waited_for(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEAD_TIMEOUT_S", 0.3)

    async def run() -> None:
        async with listening() as server:
            peers = [await server.peer() for _ in range(5)]
            for peer in peers:
                peer.writer.write(said)
            assert all([await peer.is_closed() for peer in peers])

            peer = await server.peer()
            assert (await peer.ask(b"GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n"))[0] == 200
            peer.writer.write(said or b"\r\n")
            assert await peer.is_closed()

    asyncio.run(run())


def test_who_says_nothing_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with listening(max_open=4) as server:
            silent = [await server.peer() for _ in range(4)]
            talking = await server.peer()
            assert (await talking.ask(b"GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n"))[0] == 200
            assert await silent[0].is_closed()
            assert (await silent[1].ask(b"GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n"))[0] == 200

    asyncio.run(run())
    assert "--max-connections allows" in caplog.text


def test_where_all_are_at_work_the_new_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with listening(max_open=5, max_per_address=2) as server:
            for _ in range(2):
                (await server.peer()).writer.write(b"GET /forever HTTP/1.1\r\nHost: test\r\n\r\n")
            await asyncio.sleep(0.1)
            refused = await server.peer()
            status, headers, body = await refused.answer()
            assert (status, headers["Retry-After"]) == (503, "5")
            assert json.loads(body)["error"]["code"] == "too_many_connections"
            assert await refused.is_closed()
            other = await server.peer("127.0.0.2")
            assert (await other.ask(b"GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n"))[0] == 200

    asyncio.run(run())
    assert "--max-connections-per-address allows" in caplog.text


def test_an_answer_that_is_not_read_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_READ_GRACE_S", 0.2)
    monkeypatch.setattr(module, "_MIN_READ_BYTES_PER_S", 1 << 30)

    async def run() -> None:
        async with listening() as server:
            peer = await server.peer()
            peer.writer.write(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
            await asyncio.sleep(1)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await peer.answer()
            assert len((await (await server.peer()).ask(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n"))[2]) == 8_000_000

    asyncio.run(run())


def test_all_unread_answers_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from aphrodite.adapters.inbound.http import connections

    monkeypatch.setattr(connections, "_MAX_UNREAD_BYTES", 20_000_000)

    async def run() -> None:
        async with listening() as server:
            peers = [await server.peer() for _ in range(5)]
            for peer in peers:
                peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
                peer.writer.write(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
                await asyncio.sleep(0.1)
            for peer in peers:
                peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
            ends = await asyncio.gather(*(peer.answer() for peer in peers), return_exceptions=True)
            lost = [isinstance(end, BaseException) for end in ends]
            assert lost[0]
            assert not lost[-1]

    asyncio.run(run())
