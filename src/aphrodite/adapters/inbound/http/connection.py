"""HTTP/1.1 on one connection: uvicorn's, with limits on what a client may send, and on what it may leave undone."""

import asyncio
from typing import Any, NoReturn
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from aphrodite.adapters.inbound.http.connections import Connections
from aphrodite.adapters.inbound.http.errors import (
    HeadersTooLargeError,
    InvalidRequestError,
    TooManyConnectionsError,
    describe,
)
from aphrodite.adapters.inbound.http.exchange import Exchange
from aphrodite.domain.errors import AphroditeError

_MAX_HEAD_BYTES = 64 * 1024  # request line and headers, then what frames a body's chunks, and trailers
_MAX_FRAMING_SHARE = 8  # bytes of framing for each of the body; chunks of one byte have five
_MAX_HEADERS = 256
_HEAD_TIMEOUT_S = 30.0  # from the first byte, or the connection's begin, to the end of the headers
_LINGER_S = 5.0  # that a client has to notice an answer while it still sends
_MAX_LINGER_BYTES = 256 * 1024 * 1024
_READ_GRACE_S, _MIN_READ_BYTES_PER_S = 30.0, 32 * 1024  # to take what is left of an answer


class Connection(HttpToolsProtocol):
    """Takes one request after the other; one that comes before the last was answered ends the connection after that.

    `connections` decides whether this one may be, and may end it in favour of another.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = connections
        self._in_request = False  # between a request's first byte and its last
        self._num_bytes = 0  # since it began, as they came
        self._num_body_bytes = 0
        self._refusal: AphroditeError | None = None  # why parsing was stopped
        self._is_deaf = False  # what comes is dropped
        self._idle_since_s: float | None = None  # nothing is worked at
        self._timer: asyncio.TimerHandle | None = None  # ends the connection

    # What others see

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def owes_since_s(self) -> float | None:
        return self._idle_since_s

    @property
    def num_unread_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def end(self) -> None:
        self.transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since_s = self.loop.time()
        self._end_in(_HEAD_TIMEOUT_S)
        if not self._all.admit(self):
            self._write(TooManyConnectionsError("Too many connections are open; try again later."))
            self._is_deaf = True
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.forget(self)
        self._cancel_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._num_bytes += len(data)
        if not self._in_request and self._is_answering:
            self._hear_no_more()
        if self._is_deaf:
            if self._num_bytes > _MAX_LINGER_BYTES:
                self.end()
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
            self._end_in(_HEAD_TIMEOUT_S)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or InvalidRequestError("The request is not valid HTTP."))
        except httptools.HttpParserUpgrade:
            self._hear_no_more()  # a protocol that we do not speak: the request is answered as if it had not asked
        else:
            framing = self._num_bytes - self._num_body_bytes
            if self._in_request and framing > _MAX_HEAD_BYTES + _MAX_FRAMING_SHARE * self._num_body_bytes:
                self._refuse(_headers_too_large())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._all.note_unread(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._all.note_read(self)

    # What the parser calls

    def on_message_begin(self) -> None:
        if self._is_answering:
            self._stop_parsing(InvalidRequestError("A request came before the one in front of it was answered."))
        super().on_message_begin()
        self._in_request, self._num_bytes, self._num_body_bytes = True, 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= _MAX_HEADERS:
            self._stop_parsing(_headers_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._cancel_timer()
        http_version = self.parser.get_http_version()
        self._check_head(http_version)
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        self.scope["http_version"] = http_version
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["path"] = unquote(raw_path.decode("ascii"))
        self.scope["raw_path"] = raw_path
        self.scope["query_string"] = url.query or b""
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=http_version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        self._num_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_request, self._idle_since_s = False, None
        super().on_message_complete()

    # How an answer ends, and the connection

    def on_response_complete(self) -> None:
        self._idle_since_s = self.loop.time()
        if self.transport.is_closing():
            return
        if self._in_request or self._is_deaf:
            self._linger()
        elif self.cycle.keep_alive:
            super().on_response_complete()
        else:
            self.transport.close()
        if num_unread := self.num_unread_bytes:
            self._end_in(_READ_GRACE_S + num_unread / _MIN_READ_BYTES_PER_S)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _check_head(self, http_version: str) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _MAX_HEAD_BYTES:
            self._stop_parsing(_headers_too_large())
        names = [name for name, _ in self.headers]
        if names.count(b"host") > 1 or (b"host" not in names and http_version != "1.0"):
            self._stop_parsing(InvalidRequestError("A request needs one Host header."))
        if self.parser.should_upgrade() and (b"content-length" in names or b"transfer-encoding" in names):
            # The parser takes the body for the other protocol's.
            self._stop_parsing(InvalidRequestError("This server does not upgrade; send the request as HTTP/1.1."))

    def _stop_parsing(self, error: AphroditeError) -> NoReturn:
        """Leave the parser's callback; `error` is what the client will hear."""
        self._refusal = error
        raise error

    def _refuse(self, error: AphroditeError) -> None:
        """Say what is wrong with what came, unless that would stand in the middle of an answer."""
        if self._is_answering:
            if not self._in_request or self.cycle.response_started:
                self._hear_no_more()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._write(error)
        self._linger()

    def _hear_no_more(self) -> None:
        """Let the answer that is under way be the last."""
        self._is_deaf, self._num_bytes = True, 0
        self.cycle.keep_alive = False

    def _write(self, error: AphroditeError) -> None:
        status, body, headers = describe(error)
        content = msgspec.json.encode(body)
        fields = headers | {
            "content-type": "application/json",
            "content-length": str(len(content)),
            "connection": "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.transport.write(STATUS_LINE[status] + lines.encode() + b"\r\n" + content)

    def _linger(self) -> None:
        """Close in a moment: a client that is cut off while it sends sees no answer."""
        self._is_deaf = True
        self._end_in(_LINGER_S)
        self.flow.resume_reading()

    def _end_in(self, delay_s: float) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(delay_s, self.end)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _headers_too_large() -> HeadersTooLargeError:
    return HeadersTooLargeError(
        f"A request may have {_MAX_HEADERS} headers, and with its first line {_MAX_HEAD_BYTES} bytes of them."
    )
