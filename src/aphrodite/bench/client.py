"""A client of an OpenAI-compatible server that costs little beside it: httpcore2 for HTTP, msgspec for the events."""

import time
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpcore2
import msgspec

from aphrodite.bench.measurement import Answer
from aphrodite.domain.errors import ConfigError, ServerTalkError

_CONNECT_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 10.0
_KEEPALIVE_S = 2.0  # below any server's, so that no request is sent on a connection that is being closed


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: object = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _FailedError(Exception):
    """A request failed; the text is the kind of failure."""


class Client:
    """Speaks with the server at `url`, which may end in /v1. Raises ConfigError for a URL that is none."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float = 600.0) -> None:
        """`timeout_s` is the longest wait between two pieces of an answer."""
        self.url = _checked(url)
        self._headers = [("Content-Type", "application/json"), ("Accept", "*/*")]
        if api_key is not None:
            self._headers.append(("Authorization", f"Bearer {api_key}"))
        self._timeouts = {"connect": _CONNECT_TIMEOUT_S, "read": timeout_s, "write": timeout_s}
        self._pool = httpcore2.AsyncConnectionPool(max_connections=None, keepalive_expiry=_KEEPALIVE_S)
        self._decoder = msgspec.json.Decoder(_Event)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def first_model(self) -> str:
        """The first of /v1/models. Raises ServerTalkError."""
        try:
            status, body = await self._get("/v1/models", self._timeouts)
            _check_status(status)
            return msgspec.json.decode(body, type=_Models).data[0].id
        except (msgspec.DecodeError, IndexError) as error:
            raise ServerTalkError("The server's /v1/models names no model; give one with --model.") from error
        except _FailedError as error:
            raise self.talk_error("/v1/models", str(error)) from error

    def talk_error(self, path: str, kind: str) -> ServerTalkError:
        """The sentence for a failure of that kind."""
        if kind == "refused":
            return ServerTalkError(f"No server can be reached at {self.url}; start one with: aphrodite run MODEL")
        return ServerTalkError(f"The server at {self.url} does not answer {path}: {kind}.")

    async def is_healthy(self) -> bool:
        """Whether GET /health answers with 200."""
        try:
            status, _ = await self._get("/health", dict.fromkeys(("connect", "read", "write"), _PROBE_TIMEOUT_S))
        except _FailedError:
            return False
        return status == 200

    async def ask(self, body: bytes, due_s: float | None = None) -> Answer:
        """Stream one chat completion to its end; failures are in the answer, none is raised."""
        due_s = time.perf_counter() if due_s is None else due_s
        first_s = last_s = 0.0
        usage: _Usage | None = None
        try:
            async with aclosing(self._events(body)) as events:
                async for event in events:
                    if event.error is not None:
                        raise _FailedError("error event")
                    usage = event.usage or usage
                    # An answer without any text has its first token when it ends.
                    if any(_has_text(choice.delta) or choice.finish_reason for choice in event.choices):
                        last_s = time.perf_counter()
                        first_s = first_s or last_s
            if usage is None:
                raise _FailedError("no token count")
        except _FailedError as error:
            return Answer(due_s, time.perf_counter(), error=str(error))
        return Answer(due_s, time.perf_counter(), first_s, last_s, usage.prompt_tokens, usage.completion_tokens)

    async def _events(self, body: bytes) -> AsyncGenerator[_Event]:
        url = f"{self.url}/v1/chat/completions"
        try:
            async with self._pool.stream(
                "POST", url, headers=self._headers, content=body, extensions={"timeout": self._timeouts}
            ) as response:
                if response.status != 200:
                    await response.aread()  # so that the connection can be used again
                    _check_status(response.status)
                async for data in _event_data(response.aiter_stream()):
                    yield self._decoder.decode(data)
        except msgspec.DecodeError as error:
            raise _FailedError("unreadable event") from error
        except _TRANSPORT_ERRORS as error:
            raise _FailedError(_kind(error)) from error

    async def _get(self, path: str, timeouts: dict[str, float]) -> tuple[int, bytes]:
        try:
            response = await self._pool.request(
                "GET", self.url + path, headers=self._headers, extensions={"timeout": timeouts}
            )
        except _TRANSPORT_ERRORS as error:
            raise _FailedError(_kind(error)) from error
        return response.status, response.content


async def _event_data(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """The data of each server-sent event but [DONE]; every event of this API is one line."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data != b"[DONE]":
                    yield data


def _has_text(delta: _Delta) -> bool:
    return bool(delta.content or delta.reasoning_content or delta.reasoning)


def _check_status(status: int) -> None:
    if status != 200:
        raise _FailedError(f"HTTP {status}")


_TRANSPORT_ERRORS = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OSError)


def _kind(error: Exception) -> str:
    if isinstance(error, httpcore2.ConnectError | httpcore2.ConnectTimeout):
        return "refused"
    return "timeout" if isinstance(error, httpcore2.TimeoutException) else "connection"


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isascii()
    except ValueError:  # a port that is no number
        valid = False
    if not valid:
        raise ConfigError(f"--url must be like http://127.0.0.1:2242, got {url!r}.")
    return url.rstrip("/").removesuffix("/v1")
