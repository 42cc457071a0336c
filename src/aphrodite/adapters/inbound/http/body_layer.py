"""Bodies within their limit, and an end to the work for clients that went away."""

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import BodyTooLargeError, error_response
from aphrodite.domain.errors import AphroditeError

# A client that is cut off while it sends sees a broken connection instead of our answer. So a little more is read.
_MAX_DRAINED_SHARE = 4


class BodyLayer:
    """ASGI middleware for requests with a body: reads it whole, then runs the application until it is done or the
    client closes the connection, which cancels it.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            return await self._app(scope, receive, send)
        try:
            async with within_deadline(Request(scope)):
                body = await self._read(Headers(scope=scope), receive)
        except AphroditeError as error:
            return await error_response(error)(scope, receive, send)
        if body is None:
            return None
        return await self._run(scope, body, receive, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None when the client went away before its end. Raises BodyTooLargeError."""
        length = headers.get("content-length", "")
        too_large = BodyTooLargeError(
            f"The body is larger than {self._max_body_bytes} bytes, the limit that --max-body-bytes sets."
        )
        if length.isdecimal() and int(length) > self._max_body_bytes * _MAX_DRAINED_SHARE:
            raise too_large
        pieces, num_bytes = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            num_bytes += len(piece)
            if num_bytes <= self._max_body_bytes:
                pieces.append(piece)
            elif num_bytes > self._max_body_bytes * _MAX_DRAINED_SHARE:
                raise too_large
            if not message.get("more_body", False):
                break
        if num_bytes > self._max_body_bytes:
            raise too_large
        return b"".join(pieces)

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        is_complete = False

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

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
