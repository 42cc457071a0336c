"""Answers that are one JSON object."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from starlette.responses import Response

from aphrodite.adapters.inbound.http.openai.objects import ChatCompletion, Completion

T = TypeVar("T")

_large = ThreadPoolExecutor(1, "aphrodite-large-answer")


def json_response(body: msgspec.Struct, status: int = 200) -> Response:
    """`body` in JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def write_apart(write: Callable[[], T]) -> T:
    """What `write` makes of an answer that may be large, one answer after the other.

    In a thread of its own, so that others go on meanwhile; several such threads would leave the event loop a small
    share of the interpreter's time.
    """
    return await asyncio.get_running_loop().run_in_executor(_large, write)


async def large_json_response(body: ChatCompletion | Completion) -> Response:
    """As `json_response`, made in a thread and choice by choice: other requests go on between two of them."""

    def write() -> Response:
        choices = [msgspec.Raw(msgspec.json.encode(choice)) for choice in body.choices]
        return json_response(msgspec.structs.replace(body, choices=choices))

    return await write_apart(write)
