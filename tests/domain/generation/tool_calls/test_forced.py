"""Calls that a grammar forced: told while they are written, whole in the end; their schema is a valid one."""

import json
from itertools import count
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.generation.tool_calls.test_round_trips import CALLS, cut

from aphrodite.domain.generation.message import CallArguments, Piece, assemble
from aphrodite.domain.generation.tool_calls.forced import (
    ListedCalls,
    NamedCall,
    schema_of_arguments,
    schema_of_calls,
)
from aphrodite.domain.prompting.tools import Tool


@settings(max_examples=60, deadline=None)
@given(CALLS, st.lists(st.integers(0, 10**4), max_size=12), st.sampled_from([None, 2]))
def test_a_list_of_calls_is_read(
    calls: list[tuple[str, dict[str, object]]], places: list[int], indent: int | None
) -> None:
    text = json.dumps([{"name": name, "parameters": arguments} for name, arguments in calls], indent=indent)
    for texts in ([text], list(cut(text, places)), list(text)):
        reader = ListedCalls(map(str, count()).__next__)
        message = assemble([*(piece for part in texts for piece in reader.push(part)), *reader.finish()])
        assert message.content is None
        assert [(call.name, json.loads(call.arguments)) for call in message.tool_calls] == calls


def test_arguments_are_told_while_they_are_written() -> None:
    reader = ListedCalls(lambda: "id")
    pieces: list[Piece] = [
        *reader.push('[{"name": "f", "parameters": {"x": "ab'),
        *reader.push('c"}}'),
        *reader.push("]"),
    ]
    assert pieces[1:] == [CallArguments(0, '{"x": "ab'), CallArguments(0, 'c"}')]
    assert reader.finish() == []


def test_what_is_cut_before_a_name_is_not_content() -> None:
    for text in ("[", '[\n {"na', '[{"name": "f", "par'):
        reader = ListedCalls(lambda: "id")
        assert [*reader.push(text), *reader.finish()] == []


def test_a_named_call_is_all_of_the_text() -> None:
    reader = NamedCall("f", lambda: "id")
    [call] = assemble([*reader.push('{"x"'), *reader.push(": 1}"), *reader.finish()]).tool_calls
    assert (call.id, call.name, call.arguments) == ("id", "f", '{"x": 1}')


def test_references_lead_to_the_same_place_in_the_schema_of_calls() -> None:
    place = {"$defs": {"Place": {"type": "string"}}, "type": "object", "properties": {"at": {"$ref": "#/$defs/Place"}}}
    schema = schema_of_calls([Tool("f"), Tool("g", parameters=place)], only_one=True)
    assert schema["maxItems"] == 1
    node: Any = schema
    reference = schema["items"]["anyOf"][1]["properties"]["parameters"]["properties"]["at"]["$ref"]
    for step in reference.removeprefix("#/").split("/"):
        node = node[int(step)] if isinstance(node, list) else node[step]
    assert node == {"type": "string"}


@pytest.mark.parametrize("closed", [{}, {"x": {"type": "string"}}])
def test_a_call_has_no_arguments_that_its_function_does_not_know(closed: dict[str, Any]) -> None:
    parameters = {"type": "object", "properties": closed}
    schema = schema_of_arguments(Tool("f", parameters=parameters))
    jsonschema.validate(dict.fromkeys(closed, ""), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"y": 1}, schema)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"properties": {"x": {}}, "additionalProperties": {"type": "integer"}},
        {"properties": {"x": {}}, "patternProperties": {"y": {}}},
        {"properties": {"x": {}}, "allOf": [{"properties": {"y": {}}}]},
    ],
)
def test_a_schema_that_takes_other_arguments_still_does(parameters: dict[str, Any]) -> None:
    jsonschema.validate({"y": 1}, schema_of_arguments(Tool("f", parameters=parameters)))
