"""Keys: deny by default, judged on the path that the router will see."""

import hashlib
import hmac
from collections.abc import Sequence, Set

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from aphrodite.adapters.inbound.http.errors import UnauthorizedError, error_response

HEALTH_PATHS = frozenset({"/health"})


class KeyAuth:
    """ASGI middleware that answers 401 unless `Authorization: Bearer KEY`, or `x-api-key: KEY`, holds one of the keys.

    Comparing takes as long for a wrong key as for a right one. Without keys everybody may, and `open_paths` everybody
    may in any case.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], open_paths: Set[str] = HEALTH_PATHS) -> None:
        self._app = app
        self._open_paths = open_paths
        self._digests = [_digest(key.encode("ascii")) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._digests or scope["path"] in self._open_paths:
            return await self._app(scope, receive, send)
        given = _keys_of(Headers(scope=scope))
        known = [key for key in given if self._is_known(key)]
        if known:
            scope.setdefault("state", {})["api_key"] = _digest(known[0].encode("latin-1")).hex()
            return await self._app(scope, receive, send)
        error = UnauthorizedError(
            "The API key is wrong."
            if given
            else "An API key is needed; send it as the header Authorization: Bearer KEY, or as x-api-key."
        )
        return await error_response(error)(scope, receive, send)

    def _is_known(self, key: str) -> bool:
        given = _digest(key.encode("latin-1"))  # as header bytes are decoded
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches)


def _keys_of(headers: Headers) -> list[str]:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    keys = (bearer.strip() if scheme.lower() == "bearer" else "", headers.get("x-api-key", "").strip())
    return [key for key in keys if key]


def _digest(key: bytes) -> bytes:
    # Equal lengths, so that comparing tells nothing of the key's.
    return hashlib.sha256(key).digest()
