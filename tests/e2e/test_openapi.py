"""Requests made from /openapi.json: whatever they hold, no 500 and no hang."""

import json
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.e2e.conftest import MODEL
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_errors import post

from aphrodite.adapters.inbound.http.apis import OPERATIONS, error_type
from aphrodite.adapters.inbound.http.openapi import build_openapi

DOCUMENT = build_openapi(OPERATIONS, error_type)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def type_of(content: dict[str, Any]) -> dict[str, Any]:
    """The schema of a JSON body."""
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


BODIES = {
    path: type_of(methods["post"]["requestBody"]["content"])
    for path, methods in DOCUMENT["paths"].items()
    if "requestBody" in methods.get("post", ()) and "application/json" in methods["post"]["responses"]["200"]["content"]
}

_LENGTHS = ("max_tokens", "max_completion_tokens", "max_length", "max_output_tokens")


@cache
def reference(name: str) -> st.SearchStrategy[Any]:
    return st.deferred(lambda: values(DOCUMENT["components"]["schemas"][name]))


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows, of the part of JSON Schema that the document uses."""
    if "$ref" in schema:
        return reference(schema["$ref"].rsplit("/", 1)[1])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values(option) for option in schema["anyOf"]])
    match schema.get("type"):
        case "object" if "properties" in schema:
            required = schema.get("required", [])
            fields = {name: values(field) for name, field in schema["properties"].items()}
            return st.fixed_dictionaries(
                {name: fields[name] for name in required},
                optional={name: field for name, field in fields.items() if name not in required},
            )
        case "object":
            inner = values(schema["additionalProperties"]) if schema.get("additionalProperties") else ANYTHING
            return st.dictionaries(st.integers(0, 500).map(str) | st.text(max_size=5), inner, max_size=3)
        case "array":
            return st.lists(
                values(schema.get("items", {})),
                min_size=schema.get("minItems", 0),
                max_size=schema.get("minItems", 0) + 3,
            )
        case "integer":
            low, high = schema.get("minimum", -(2**70)), schema.get("maximum", 2**70)
            return st.integers(low, min(high, low + 8)) | st.integers(low, high)
        case "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum", -1e300))
            return st.floats(low, schema.get("maximum", 1e300), exclude_min="exclusiveMinimum" in schema)
        case "string":
            return st.text(max_size=30)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return ANYTHING


def body_of(path: str) -> st.SearchStrategy[Any]:
    def tame(body: Any) -> Any:
        """Of the served model, and short: what is looked for is not the engine's speed."""
        fixed = {"model": MODEL, "stream": False, "options": {"num_predict": 3}} | dict.fromkeys(_LENGTHS, 3)
        return body | {name: value for name, value in fixed.items() if name in BODIES[path]["properties"]}

    return values(BODIES[path]).map(tame)


def test_the_document_is_what_is_served(server: ServerProcess) -> None:
    assert json.loads(server.get("/openapi.json")[1]) == json.loads(json.dumps(DOCUMENT))


@pytest.mark.parametrize("path", BODIES)
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_bodies_that_the_schema_allows(server: ServerProcess, path: str, data: st.DataObject) -> None:
    status, answer = post(server, path, data.draw(body_of(path)))
    assert status in (200, 400), answer


@pytest.mark.parametrize("path", [path for path, body in BODIES.items() if body.get("required")])
@given(body=ANYTHING | st.binary(max_size=50))
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_bodies_of_any_kind(server: ServerProcess, path: str, body: Any) -> None:
    status, answer = post(server, path, body)
    assert status == 400
    msgspec.convert(answer, error_type(path), strict=True)
