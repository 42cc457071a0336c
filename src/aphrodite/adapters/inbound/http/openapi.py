"""GET /openapi.json, generated from the types that validate requests and write responses."""

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.operation import Operation

_PLAIN = {"text/plain": {"schema": {"type": "string"}}}
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def build_openapi(
    operations: Sequence[Operation], error_type: Callable[[str], type[msgspec.Struct]], root_path: str = ""
) -> dict[str, Any]:
    """The OpenAPI 3.1 document; `error_type` says in what form the errors of a path, behind `root_path`, are."""
    types: set[type[msgspec.Struct]] = {
        kind
        for operation in operations
        for kind in (operation.response, operation.request, operation.chunk, error_type(operation.path))
        if kind is not None
    }
    _, components = msgspec.json.schema_components(sorted(types, key=str), ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method] = _describe(operation, error_type(operation.path))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Aphrodite", "version": version("aphrodite-vlm")},
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"bearer": []}],
    }


async def openapi(request: Request) -> Response:
    """The document, made once."""
    return Response(request.app.state.openapi, media_type="application/json")


def _describe(operation: Operation, error_type: type[msgspec.Struct]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.response is not None:
        content["application/json"] = {"schema": _reference(operation.response)}
    if operation.chunk is not None:
        content[operation.chunk_media_type] = {"schema": _reference(operation.chunk)}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            "200": {"description": "The answer", "content": content or _PLAIN},
            "default": {
                "description": "What went wrong",
                "content": {"application/json": {"schema": _reference(error_type)}},
            },
        },
    }
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(operation.request)}},
        }
    names = _PARAMETER.findall(operation.path)
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    return described


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
