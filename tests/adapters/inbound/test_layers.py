"""Keys, errors, bodies and event streams, in a real ASGI application without an engine."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aphrodite.adapters.inbound.http import errors as api
from aphrodite.adapters.inbound.http.auth import KeyAuth
from aphrodite.adapters.inbound.http.body_layer import BodyLayer
from aphrodite.adapters.inbound.http.request_layer import RequestLayer
from aphrodite.adapters.inbound.http.sse import DONE, EventStream
from aphrodite.domain import errors as domain

Handler = Callable[[Request], Awaitable[Response]]


def application(handler: Handler, *, timeout_s: float = 5, keys: tuple[str, ...] = ()) -> Starlette:
    return Starlette(
        routes=[Route("/{path:path}", handler, methods=["GET", "POST"])],
        middleware=[
            Middleware(RequestLayer, timeout_s=timeout_s),
            Middleware(KeyAuth, keys=keys),
            Middleware(BodyLayer, max_body_bytes=100),
        ],
    )


async def ask(
    app: Starlette,
    path: str = "/",
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    body: list[bytes] | None = None,
    leave_after: int | None = None,
    takes_nothing: bool = False,
) -> tuple[int, dict[str, str], bytes]:
    """One request; the client leaves after so many messages of the answer, at once for 0, or without taking any."""
    given = [{"type": "http.request", "body": piece, "more_body": True} for piece in body or []]
    given.append({"type": "http.request", "body": b"", "more_body": False})
    received: list[Any] = []
    gone = asyncio.Event()
    if leave_after == 0:
        gone.set()

    async def receive() -> Any:
        if given:
            return given.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if takes_nothing:
            gone.set()
            await asyncio.Event().wait()
        received.append(message)
        if len(received) == leave_after or not message.get("more_body", True):
            gone.set()

    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": encoded,
    }
    await asyncio.wait_for(app(scope, receive, send), 20)
    if not received:
        return 0, {}, b""
    start, *rest = received
    shown = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], shown, b"".join(message.get("body", b"") for message in rest)


async def hello(request: Request) -> Response:
    return PlainTextResponse(await request.body())


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer sk-one", 200),
        ("bearer  sk-two ", 200),
        ("Bearer sk-on", 401),
        ("Bearer sk-one2", 401),
        ("Bearer sk-one,sk-two", 401),
        ("Bearer ßk", 401),
        ("Bearer", 401),
        ("Basic sk-one", 401),
        ("sk-one", 401),
        ("", 401),
    ],
)
def test_keys(header: str, status: int) -> None:
    app = application(hello, keys=("sk-one", "sk-two"))
    found, headers, body = asyncio.run(ask(app, "/v1/models", headers={"Authorization": header}))
    assert found == status
    if status == 401:
        assert headers["www-authenticate"] == "Bearer"
        assert json.loads(body)["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "sk-one"}, 200),
        ({"x-api-key": " sk-two "}, 200),
        ({"x-api-key": "sk-on"}, 401),
        ({"x-api-key": "Bearer sk-one"}, 401),
        ({"x-api-key": "sk-three", "Authorization": "Bearer sk-one"}, 200),
        ({"x-api-key": "sk-one", "Authorization": "Bearer sk-three"}, 200),
        ({"x-api-key": "sk-three", "Authorization": "Bearer sk-four"}, 401),
    ],
)
def test_keys_as_anthropics_clients_send_them(headers: dict[str, str], status: int) -> None:
    app = application(hello, keys=("sk-one", "sk-two"))
    assert asyncio.run(ask(app, "/v1/messages", headers=headers))[0] == status


def test_only_the_health_path_is_open() -> None:
    app = application(hello, keys=("sk-one",))
    assert asyncio.run(ask(app, "/health", method="GET"))[0] == 200
    for path in ("/health/", "//health", "/Health", "/health\x00", "/v1/../health", "/healthy", ""):
        assert asyncio.run(ask(app, path, method="GET"))[0] == 401


@pytest.mark.parametrize(("pieces", "status"), [([b"x" * 100], 200), ([b"x" * 60] * 2, 413), ([b"x" * 60] * 90, 413)])
def test_bodies_have_a_limit(pieces: list[bytes], status: int) -> None:
    found, _, body = asyncio.run(ask(application(hello), body=pieces))
    assert found == status
    if status == 413:
        assert "--max-body-bytes" in json.loads(body)["error"]["message"]
    else:
        assert body == b"".join(pieces)


def test_an_announced_body_that_is_far_too_long_is_not_read() -> None:
    assert asyncio.run(ask(application(hello), headers={"Content-Length": "1000000"}))[0] == 413


def test_a_client_that_goes_away_ends_the_work() -> None:
    ends: list[str] = []

    async def slow(request: Request) -> Response:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return Response()

    assert asyncio.run(ask(application(slow), leave_after=0))[0] == 0
    assert ends == ["cancelled"]


def test_what_nobody_foresaw_is_a_500_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: Request) -> Response:
        raise KeyError("a secret")

    status, headers, body = asyncio.run(ask(application(broken), headers={"x-request-id": "bad id\n"}))
    assert status == 500
    assert b"secret" not in body
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert len(headers["x-request-id"]) == 32
    assert "a secret" in caplog.text


def stream(events: Callable[[], AsyncGenerator[bytes, None]]) -> Handler:
    async def answer(request: Request) -> Response:
        return EventStream(events())

    return answer


class Events:
    """Events without end, or up to an error; `closed` says whether the generator was closed."""

    def __init__(self, error: Exception | None = None, pause_s: float = 0.0) -> None:
        self.closed = False
        self._error, self._pause_s = error, pause_s

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            if self._error is not None:
                raise self._error
            while True:
                await asyncio.sleep(self._pause_s)
                yield b"data: 2\n\n"
        finally:
            self.closed = True


def last_event(body: bytes) -> Any:
    assert DONE not in body
    return json.loads(body.strip().rsplit(b"\n\n", 1)[-1].removeprefix(b"data: "))


@pytest.mark.parametrize(
    ("error", "code"),
    [(domain.EngineDeadError("The engine died."), "engine_unavailable"), (KeyError("a secret"), None)],
)
def test_an_error_is_the_last_event(error: Exception, code: str | None) -> None:
    events = Events(error)
    status, headers, body = asyncio.run(ask(application(stream(events))))
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert body.startswith(b"data: 1\n\n")
    assert last_event(body)["error"]["code"] == code
    assert b"secret" not in body
    assert events.closed


def test_a_stream_ends_with_its_deadline() -> None:
    events = Events(pause_s=0.05)
    _, _, body = asyncio.run(ask(application(stream(events), timeout_s=0.3)))
    assert last_event(body)["error"]["code"] == "request_timeout"
    assert events.closed


def test_a_reader_that_leaves_closes_the_stream() -> None:
    events = Events(pause_s=0.01)
    asyncio.run(ask(application(stream(events)), leave_after=3))
    assert events.closed


def test_a_reader_that_leaves_before_the_first_event_closes_the_stream() -> None:
    events = Events()
    asyncio.run(ask(application(stream(events)), takes_nothing=True))
    assert events.closed


def test_what_goes_wrong_before_the_first_event_is_told_by_a_status() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        raise domain.QueueFullError("Too many wait.")
        yield b""

    status, _, body = asyncio.run(ask(application(stream(events))))
    assert (status, json.loads(body)["error"]["message"]) == (429, "Too many wait.")


def _all_errors(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_all_errors(child) for child in kind.__subclasses__()))


def test_every_request_error_is_a_400_and_422_never_is() -> None:
    for kind in _all_errors(domain.AphroditeError):
        if kind in (domain.GenerationError, api.InvalidRequestError):
            continue
        status, body, _ = api.describe(kind("One sentence."))
        assert status != 422
        assert status == 400 or not issubclass(kind, domain.RequestError), kind
        if status != 500:
            assert body.error.message == "One sentence."


def test_the_table_of_statuses() -> None:
    table = {
        api.UnauthorizedError: 401,
        api.UnknownModelError: 404,
        api.BodyTooLargeError: 413,
        domain.QueueFullError: 429,
        domain.EngineDeadError: 503,
        domain.EngineClosedError: 503,
        api.RequestTimeoutError: 504,
    }
    for kind, status in table.items():
        found, _, headers = api.describe(kind("One sentence."))
        assert found == status
        assert ("Retry-After" in headers) == (status in (429, 503))


def test_image_errors_have_a_code_each() -> None:
    kinds = _all_errors(domain.ImageError) - {domain.ImageFetchError}
    codes = {api.describe(kind("One sentence."))[1].error.code for kind in kinds}
    assert len(codes) == len(kinds)
