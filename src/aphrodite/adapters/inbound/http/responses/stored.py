"""What can be asked of a response later: itself, what it answered, its end, and to be forgotten."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.errors import InvalidRequestError, NotFoundError
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.responses.memory import ResponseMemory, StoredResponse
from aphrodite.adapters.inbound.http.responses.protocol import DeletedResponse, InputItems
from aphrodite.adapters.inbound.http.running import RunningRequests
from aphrodite.adapters.inbound.http.service import client_of, service_of

_MAX_ITEMS, _DEFAULT_ITEMS = 100, 20  # of one page


async def get_response(request: Request) -> Response:
    """A response as it is now."""
    return Response(_stored(request).response, media_type="application/json")


async def delete_response(request: Request) -> Response:
    """Forget a response."""
    response_id = _stored(request).response_id
    memory_of(request).remove(client_of(request), response_id)
    return json_response(DeletedResponse(response_id))


async def cancel_response(request: Request) -> Response:
    """End a response that is under way; whoever reads its events gets what it has said by now."""
    stored = _stored(request)
    running: RunningRequests = request.app.state.running
    found = running.find(client_of(request), stored.response_id)
    response = msgspec.json.decode(stored.response)
    if response["status"] != "in_progress" or not found:
        raise InvalidRequestError("The response has ended; only one that is under way can be cancelled.", "response_id")
    for each in found:
        each.stop()
    response["status"] = "cancelled"
    return Response(msgspec.json.encode(response), media_type="application/json")


async def input_items(request: Request) -> Response:
    """A page of what a response answered, the last item first unless `order=asc`."""
    page = partial(_page, _stored(request).items, request.query_params)
    executor = service_of(request).body_executor
    return json_response(await asyncio.get_running_loop().run_in_executor(executor, page))


def _page(stored: bytes, query: Mapping[str, str]) -> InputItems:
    items: list[dict[str, Any]] = msgspec.json.decode(stored)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order must be asc or desc.", "order")
    if order == "desc":
        items.reverse()
    after = query.get("after")
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequestError("after is the id of no item of this response.", "after")
        items = items[ids.index(after) + 1 :]
    limit = query.get("limit", str(_DEFAULT_ITEMS))[:9]
    if not limit.isdecimal() or not 1 <= int(limit) <= _MAX_ITEMS:
        raise InvalidRequestError(f"limit must be a number from 1 to {_MAX_ITEMS}.", "limit")
    page = items[: int(limit)]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return InputItems(page, first, last, has_more=len(items) > len(page))


def memory_of(request: Request) -> ResponseMemory:
    """The memory of the application that a request came to."""
    memory: ResponseMemory = request.app.state.responses
    return memory


def _stored(request: Request) -> StoredResponse:
    stored = memory_of(request).find(client_of(request), request.path_params["response_id"])
    if stored is None:
        raise NotFoundError("There is no such response, or not any more.")
    return stored
