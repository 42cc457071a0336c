"""Bodies within their limits, and an end to the work for clients that went away."""

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aphrodite.adapters.inbound.http.body_budget import BodyBudget, BodyLease
from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import (
    BodyEncodingError,
    BodyTimeoutError,
    BodyTooLargeError,
    error_response,
)
from aphrodite.domain.errors import AphroditeError

# A client that is cut off while it sends sees a broken connection instead of our answer. So a little more is read.
_MAX_DRAINED_SHARE = 4
_NUM_LARGEST_BODIES = 4  # that there is memory for at once
_MAX_SMALL_BYTES = 64 * 1024  # bodies of so little are not counted; the number of connections limits them
_ARRIVAL_GRACE_S, _MIN_ARRIVAL_BYTES_PER_S = 30.0, 32 * 1024


class BodyLayer:
    """ASGI middleware for requests with a body: reads it whole, then runs the application until it is done or the
    client closes the connection, which cancels it.

    The application gets the body in one message. `state.body_lease` is to be released once what came in it is dropped.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._budget = BodyBudget(_NUM_LARGEST_BODIES * max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            return await self._app(scope, receive, send)
        with self._budget.lease() as lease:
            try:
                async with within_deadline(Request(scope)):
                    body = await self._read(Headers(scope=scope), receive, lease)
            except AphroditeError as error:
                return await error_response(error)(scope, receive, send)
            if body is None:
                return None
            scope["state"] |= {"body_lease": lease, "body_bytes": len(body)}
            replayed: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
            del body  # whoever takes the message has the only reference
            return await self._run(scope, replayed, receive, send)

    async def _read(self, headers: Headers, receive: Receive, lease: BodyLease) -> bytes | None:
        """The body; None when the client went away before its end.

        Raises BodyTooLargeError, BodyTimeoutError or BodyEncodingError.
        """
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise BodyEncodingError("Bodies are read as they are: send the JSON without a Content-Encoding.")
        announced = _length(headers.get("content-length", ""))
        if announced is not None and announced > self._max_body_bytes * _MAX_DRAINED_SHARE:
            raise self._too_large()
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(began_s + _ARRIVAL_GRACE_S) as arrival:
                return await self._collect(announced, receive, lease, arrival)
        except TimeoutError as error:
            if not arrival.expired():
                raise
            raise BodyTimeoutError("The body arrived too slowly.") from error

    async def _collect(
        self, announced: int | None, receive: Receive, lease: BodyLease, arrival: asyncio.Timeout
    ) -> bytes | None:
        loop = asyncio.get_running_loop()
        pieces, num_bytes, is_counted = [], 0, False
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            num_bytes += len(piece)
            if num_bytes <= self._max_body_bytes:
                pieces.append(piece)
            elif num_bytes <= self._max_body_bytes * _MAX_DRAINED_SHARE:
                pieces.clear()
            else:
                raise self._too_large()
            if not message.get("more_body", False):
                break
            ends_s = arrival.when() or 0.0
            if num_bytes > _MAX_SMALL_BYTES and not is_counted:
                is_counted, waits_since_s = True, loop.time()
                await lease.take(min(announced or self._max_body_bytes, self._max_body_bytes), arrival)
                ends_s += loop.time() - waits_since_s
            arrival.reschedule(ends_s + len(piece) / _MIN_ARRIVAL_BYTES_PER_S)
        lease.note_arrival()
        if num_bytes > self._max_body_bytes:
            raise self._too_large()
        return b"".join(pieces)

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"The body is larger than {self._max_body_bytes} bytes, the limit that --max-body-bytes sets."
        )

    async def _run(self, scope: Scope, replayed: list[Message], receive: Receive, send: Send) -> None:
        is_complete = False

        async def replay() -> Message:
            return replayed.pop() if replayed else {"type": "http.disconnect"}

        async def watched_send(message: Message) -> None:
            nonlocal is_complete
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        work = asyncio.ensure_future(self._app(scope, replay, watched_send))
        gone = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if is_complete:  # the end of the answer looks like a client that goes away
                await asyncio.wait({work})
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.wait({work, gone})
        if not work.cancelled():
            work.result()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _length(content_length: str) -> int | None:
    """What a header says; one of thousands of digits is no number for Python, and a large one."""
    digits = content_length.lstrip("0")[:20]
    return int(digits or "0") if content_length.isdecimal() else None
