"""A real HTTP server on the loopback interface that behaves as badly as each test wants."""

import asyncio
import io
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from aphrodite.adapters.outbound.images.fetching import UrlImageFetcher
from aphrodite.adapters.outbound.images.options import FetchOptions

Route = Callable[[asyncio.StreamWriter], Awaitable[None]]
HOST = "images.test"  # a name that leads to the server, and that the fetchers of these tests are told to trust


class ImageServer:
    """Answers each path with its route, and counts what happens."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: Counter[str] = Counter()
        self.heads: list[str] = []
        self.num_open = 0  # connections
        self.port = 0
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def start(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._handle, host, 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def url(self, path: str, host: str = HOST, scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def answer(self, path: str, body: bytes, status: str = "200 OK", headers: Sequence[str] = ()) -> None:
        """Answer a path as an orderly server does."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]

        async def route(writer: asyncio.StreamWriter) -> None:
            writer.write("\r\n".join(lines).encode() + body)

        self.routes[path] = route

    async def _run(self, path: str, writer: asyncio.StreamWriter) -> None:
        await self.routes[path](writer)
        await writer.drain()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.num_open += 1
        try:
            first = await reader.readexactly(1)
            if first == b"\x16":  # a client that wants TLS
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            self.requests[path] += 1
            self.heads.append(head)
            route, gone = asyncio.ensure_future(self._run(path, writer)), asyncio.ensure_future(reader.read())
            try:
                await asyncio.wait({route, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                route.cancel()
                gone.cancel()
                await asyncio.gather(route, gone, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            self.num_open -= 1
            self._handlers.discard(task)
            writer.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server() -> AsyncIterator[ImageServer]:
    server = ImageServer()
    await server.start()
    yield server
    await server.stop()


class FakeResolver:
    """Names to addresses from a table."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.delay_s = 0.0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        await asyncio.sleep(self.delay_s)
        if host not in self.answers:
            raise OSError("foreign words of a resolver")
        return self.answers[host]


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver({HOST: ["127.0.0.1"]})


@pytest.fixture
async def make_fetcher(resolver: FakeResolver) -> AsyncIterator[Callable[..., UrlImageFetcher]]:
    """Builds fetchers that trust HOST, and closes them."""
    fetchers: list[UrlImageFetcher] = []
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no certificates to load

    def make(ssl_context: ssl.SSLContext = plain, **options: object) -> UrlImageFetcher:
        settings = FetchOptions(**{"allowed_hosts": frozenset({HOST}), **options})  # type: ignore[arg-type]
        fetchers.append(UrlImageFetcher(settings, resolver=resolver, ssl_context=ssl_context))
        return fetchers[-1]

    yield make
    for fetcher in fetchers:
        await fetcher.close()


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """An RGB noise picture as a file of a format."""

    def encode(format_name: str, size: tuple[int, int] = (40, 30), **options: object) -> bytes:
        pixels = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format_name, **options)
        return file.getvalue()

    return encode
