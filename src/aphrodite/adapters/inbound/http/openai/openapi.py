"""GET /openapi.json, generated from the types that validate requests and write responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.openai import protocol


@dataclass(frozen=True, slots=True)
class Operation:
    """One path and method of the API, in the types of its bodies."""

    method: str
    path: str
    summary: str
    response: type[msgspec.Struct] | None = None  # None: plain text
    request: type[msgspec.Struct] | None = None
    chunk: type[msgspec.Struct] | None = None  # of the event stream


OPERATIONS = (
    Operation(
        "post",
        "/v1/chat/completions",
        "Answer a conversation, with at most one image in it",
        protocol.ChatCompletion,
        protocol.ChatCompletionRequest,
        protocol.ChatCompletionChunk,
    ),
    Operation(
        "post",
        "/v1/completions",
        "Continue a text",
        protocol.Completion,
        protocol.CompletionRequest,
        protocol.Completion,
    ),
    Operation(
        "post", "/v1/tokenize", "Text or messages to token ids", protocol.TokenizeResponse, protocol.TokenizeRequest
    ),
    Operation("post", "/v1/detokenize", "Token ids to text", protocol.DetokenizeResponse, protocol.DetokenizeRequest),
    Operation("get", "/v1/models", "The served model, under each of its names", protocol.ModelList),
    Operation("get", "/v1/models/{name}", "One of the names", protocol.Model),
    Operation("get", "/health", "Whether requests are taken", protocol.Health),
    Operation("get", "/version", "The server's version", protocol.Version),
    Operation("get", "/metrics", "Metrics in Prometheus' text format"),
)


def build_openapi(operations: Sequence[Operation] = OPERATIONS) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types: set[type[msgspec.Struct]] = {
        kind
        for operation in operations
        for kind in (operation.response, operation.request, operation.chunk)
        if kind is not None
    }
    ordered = sorted(types | {protocol.ErrorBody}, key=str)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Aphrodite", "version": version("aphrodite-vlm")},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"bearer": []}],
    }


async def openapi(request: Request) -> Response:
    """The document, made once."""
    return Response(request.app.state.openapi, media_type="application/json")


def _describe(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if operation.response is not None:
        content = {"application/json": {"schema": _reference(operation.response)}}
    if operation.chunk is not None:
        content["text/event-stream"] = {"schema": _reference(operation.chunk)}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            "200": {"description": "The answer", "content": content},
            "default": {
                "description": "What went wrong",
                "content": {"application/json": {"schema": _reference(protocol.ErrorBody)}},
            },
        },
    }
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(operation.request)}},
        }
    if "{name}" in operation.path:
        described["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    return described


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
