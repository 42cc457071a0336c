"""Answers in pieces: server-sent events, or lines of JSON."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import describe, note_error, written_error

DONE = b"data: [DONE]\n\n"

_LAST_WORDS_S = 5.0  # to tell an error to a client that may have stopped reading

_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # proxies hand on what they have
}


def encode_event(data: object) -> bytes:
    """One event; JSON holds no line breaks, so one `data:` line is enough."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def encode_named_event(name: str, data: object) -> bytes:
    """As `encode_event`, for clients that look at an event's name."""
    return b"event: " + name.encode() + b"\n" + encode_event(data)


def encode_line(data: msgspec.Struct) -> bytes:
    """One line of newline-delimited JSON."""
    return msgspec.json.encode(data) + b"\n"


class EventStream(Response):
    """Sends events as they come. An error before the first is raised; one on the way becomes the last event, with no
    [DONE] behind it; `encode_error` frames it, in the form of the API that was asked.

    The generator is closed in any case, also when the client goes away, or reads too slowly for the request's deadline.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[bytes, None], encode_error: Callable[[msgspec.Struct], bytes] = encode_event
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._encode_error = encode_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        async with aclosing(self._events) as events:
            # A generator that was never begun runs no `finally` when it is closed: so this goes before all else.
            async with within_deadline(Request(scope)):
                event = await anext(events, None)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                async with within_deadline(Request(scope)):
                    while event is not None:
                        await send({"type": "http.response.body", "body": event, "more_body": True})
                        event = await anext(events, None)
            except Exception as error:  # noqa: BLE001 - the status is out already: whatever it is goes into the stream
                status, body, _ = describe(error)
                note_error(scope, body.error)
                event = self._encode_error(written_error(scope, body.error, status))
                async with asyncio.timeout(_LAST_WORDS_S):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class LineStream(EventStream):
    """The same as newline-delimited JSON."""

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__(lines, encode_line)
