"""What was said before an input: the answers that it continues, in memory of their own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.requests import Request

from aphrodite.adapters.inbound.http.body_budget import BodyBudget, BodyLease
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.responses.conversation import to_messages
from aphrodite.adapters.inbound.http.responses.memory import MAX_BYTES, StoredResponse
from aphrodite.adapters.inbound.http.responses.stored import memory_of
from aphrodite.adapters.inbound.http.service import client_of, service_of


class ThreadBudget(BodyBudget):
    """Memory for the threads of all requests that are being prepared; one at least has room."""

    def __init__(self) -> None:
        super().__init__(MAX_BYTES)


class _Leases:
    """What a request has of both budgets, released together."""

    def __init__(self, *leases: BodyLease) -> None:
        self._leases = leases

    def release(self) -> None:
        for lease in self._leases:
            lease.release()


@asynccontextmanager
async def said_before(request: Request, previous_response_id: str | None) -> AsyncIterator[list[dict[str, Any]]]:
    """The messages of the answers that are continued. Their memory is given back with the body's, or at the end.

    Raises InvalidRequestError.
    """
    if previous_response_id is None:
        yield []
        return
    thread = memory_of(request).thread(client_of(request), previous_response_id)
    if thread is None:
        raise InvalidRequestError(
            "There is no such response to be continued: it was not stored, was deleted, or gave way to others.",
            "previous_response_id",
            "previous_response_not_found",
        )
    budget: ThreadBudget = request.app.state.threads
    with budget.lease() as lease:
        async with asyncio.timeout(None) as arrival:
            await lease.take(sum(stored.num_bytes for stored in thread), arrival)
        lease.note_arrival()
        request.state.body_lease = _Leases(request.state.body_lease, lease)
        yield await asyncio.get_running_loop().run_in_executor(service_of(request).body_executor, _messages, thread)


def _messages(thread: Sequence[StoredResponse]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for stored in thread:
        items += msgspec.json.decode(stored.items)
        items += msgspec.json.decode(stored.response)["output"]
    return to_messages(items)
