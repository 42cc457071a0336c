"""Answers that are one JSON object."""

import asyncio

import msgspec
from starlette.responses import Response

from aphrodite.adapters.inbound.http.openai.objects import ChatCompletion, Completion


def json_response(body: msgspec.Struct, status: int = 200) -> Response:
    """`body` in JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def large_json_response(body: ChatCompletion | Completion) -> Response:
    """As `json_response`, made in a thread and choice by choice: other requests go on between two of them."""

    def write() -> Response:
        choices = [msgspec.Raw(msgspec.json.encode(choice)) for choice in body.choices]
        return json_response(msgspec.structs.replace(body, choices=choices))

    return await asyncio.to_thread(write)
