"""--request-timeout: one deadline for all that a request needs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.types import Scope

from aphrodite.adapters.inbound.http.errors import RequestTimeoutError


def set_deadline(scope: Scope, timeout_s: float) -> None:
    """Let the time of a request begin."""
    scope["state"]["timeout_s"] = timeout_s
    scope["state"]["deadline_s"] = asyncio.get_running_loop().time() + timeout_s


@asynccontextmanager
async def within_deadline(request: Request) -> AsyncIterator[None]:
    """Raises RequestTimeoutError, and cancels what is inside, when the request's time is up."""
    try:
        async with asyncio.timeout_at(request.state.deadline_s) as timeout:
            yield
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise RequestTimeoutError(
            f"The request took longer than {request.state.timeout_s:g} seconds, the limit that --request-timeout sets."
        ) from error
