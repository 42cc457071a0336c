"""One request and its answer on the wire."""

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_WITHOUT_BODY = (204, 304)


class Exchange(RequestResponseCycle):
    """uvicorn's, with answers of our own: the connection decides how it ends, and HTTP/1.0 knows no chunks.

    An answer of unknown length goes in chunks, or to an HTTP/1.0 client until the connection closes.
    """

    async def send(self, message: ASGISendEvent) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], [*self.default_headers, *message.get("headers", [])])
        elif message["type"] == "http.response.body":
            self._write(message.get("body", b""), is_last=not message.get("more_body", False))

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.response_started, self.waiting_for_100_continue = True, False
        given = dict(headers)
        if self.more_body or given.get(b"connection") == b"close":
            self.keep_alive = False  # what is left of a request is not looked at
        if not self.keep_alive and b"connection" not in given:
            headers.append((b"connection", b"close"))
        has_body = self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY
        self.chunked_encoding = has_body and b"content-length" not in given and self.scope["http_version"] != "1.0"
        if self.chunked_encoding:
            headers.append((b"transfer-encoding", b"chunked"))
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n"]))

    def _write(self, body: bytes, *, is_last: bool) -> None:
        if self.scope["method"] == "HEAD":
            pass
        elif self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(chunk + b"0\r\n\r\n" if is_last else chunk)
        elif body:
            self.transport.write(body)
        if is_last:
            self.response_complete = True
            self.message_event.set()
            self.on_response()
