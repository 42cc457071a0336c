"""What an API offers: each method of each path, once for the router and for /openapi.json."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, who answers it, and the types of its bodies."""

    method: str
    path: str  # as the router reads it: {name:path} takes slashes, too
    endpoint: Callable[[Request], Awaitable[Response]]
    summary: str
    response: type[msgspec.Struct] | None = None  # without this and `chunk`: plain text
    request: type[msgspec.Struct] | None = None
    chunk: type[msgspec.Struct] | None = None  # of the stream
    chunk_media_type: str = "text/event-stream"

    def route(self) -> Route:
        """For the router."""
        return Route(self.path, self.endpoint, methods=[self.method.upper()])
