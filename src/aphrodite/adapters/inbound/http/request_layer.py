"""The outermost layer: an id, a deadline, a line in the log, and an answer whatever happens inside."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aphrodite.adapters.inbound.http.deadline import set_deadline
from aphrodite.adapters.inbound.http.errors import error_response
from aphrodite.adapters.inbound.http.request_note import note_of
from aphrodite.adapters.inbound.http.traces import answered_request
from aphrodite.domain.ports import Tracer

_logger = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET_PATHS = frozenset({"/health", "/ping", "/load", "/metrics"})  # asked every few seconds by machines


class RequestLayer:
    """ASGI middleware. A client's own x-request-id is kept where it is a plain word; every answer has the id.

    The log says method, path, status, time and the request's note; never what was asked or answered.
    """

    def __init__(self, app: ASGIApp, timeout_s: float, tracer: Tracer | None = None) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started_s, status = time.perf_counter(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        set_deadline(scope, self._timeout_s)
        note = note_of(scope)
        note.client = scope["client"][0] if scope.get("client") else ""

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = scope["state"]["request_id"]  # the body may have brought another
                if note.ignored_fields:
                    headers["x-aphrodite-ignored"] = note.ignored_header
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if status:
                raise  # too late for another answer: the connection is closed
            await error_response(error)(scope, receive, send_with_id)
        finally:
            duration_s = time.perf_counter() - started_s
            if self._tracer is not None and scope["path"] not in _QUIET_PATHS:
                self._tracer.trace(answered_request(scope, status, duration_s, note))
            _logger.log(
                logging.DEBUG if scope["path"] in _QUIET_PATHS else logging.INFO,
                "%s %s %s in %.0f ms %s",
                scope["method"],
                ascii(scope["path"])[1:-1],
                status or "client went away",
                duration_s * 1000,
                note,
                extra={"request_id": scope["state"]["request_id"], "status": status, "duration_s": round(duration_s, 6)}
                | {"note": note.fields()},
            )
