"""GET / and /playground: a page to try the model with. A handful of files, read once; nothing else is ever served."""

import hashlib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PAGE = "index.html"
_PATHS_OF_PAGE = ("/", "/playground")

# The page runs its own scripts alone, talks to this server alone, and stands in nobody's frame.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked again each time, and answered with 304
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def playground_routes(max_images: int) -> list[Route]:
    """A route a file; the page is told how many images a prompt may have, 0 for a model that reads text alone."""
    routes = []
    for name, file in _read(max_images).items():
        paths = _PATHS_OF_PAGE if name == _PAGE else (f"/playground/{name}",)
        routes += [Route(path, _Endpoint(file), methods=["GET"]) for path in paths]
    return routes


class _Endpoint:
    """ASGI application that answers with one file."""

    def __init__(self, file: _File) -> None:
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {**_HEADERS, "ETag": self._file.etag}
        response = Response(self._file.content, headers=headers, media_type=self._file.media_type)
        if scope.get("raw_path", b"").endswith(b"/playground/"):  # what the page names lies beside /playground
            response = Response(status_code=307, headers={"Location": "../playground"})
        elif Request(scope).headers.get("if-none-match") == self._file.etag:
            response = Response(status_code=304, headers=headers)
        await response(scope, receive, send)


def _read(max_images: int) -> Mapping[str, _File]:
    files = {}
    for entry in importlib.resources.files(__package__).joinpath("static").iterdir():
        kind = entry.name.rpartition(".")[2]
        if kind not in _TYPES:
            continue
        content = entry.read_bytes()
        if entry.name == _PAGE:
            content = content.replace(b'data-max-images="1"', b'data-max-images="%d"' % max_images)
        files[entry.name] = _File(content, _TYPES[kind], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return files
