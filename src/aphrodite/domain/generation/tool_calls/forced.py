"""Calls in the JSON that a grammar had the model write, whatever its own format; told while they are written."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aphrodite.domain.generation.message import CallArguments, CallStart, Piece
from aphrodite.domain.generation.tool_calls.call_format import CallFormat
from aphrodite.domain.generation.tool_calls.ends import ClosingBracket
from aphrodite.domain.generation.tool_calls.values import parse_json
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.prompting.tools import Tool

_HEAD = re.compile(
    r'(?:\s*\})?\s*[\[,]\s*\{\s*"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")\s*,\s*"parameters"\s*:\s*(?=\{)', re.DOTALL
)

_OPENING_KEYWORDS = {"additionalProperties", "patternProperties", "minProperties", "allOf", "anyOf", "oneOf", "$ref"}


def schema_of_calls(tools: Sequence[Tool], *, only_one: bool) -> dict[str, Any]:
    """The JSON schema of a list of calls, `[{"name": ..., "parameters": ...}, ...]`, one at least."""
    options = []
    for index, tool in enumerate(tools):
        place = f"#/items/anyOf/{index}/properties/parameters"
        properties = {"name": {"const": tool.name}, "parameters": _moved(schema_of_arguments(tool), place)}
        options.append(
            {
                "type": "object",
                "properties": properties,
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
        )
    schema: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": options}}
    return schema | ({"maxItems": 1} if only_one else {})


def form_or_calls(
    form: StructuredOutputs, call_format: CallFormat | None, tools: Sequence[Tool], *, only_one: bool
) -> StructuredOutputs | None:
    """The form of an answer that has `form`, or is calls of tools in the model's own format.

    None where that cannot be said: where the form is not JSON, or the format is another.
    """
    schema: Any = {"type": "object"} if form.json_object else form.json and json.loads(str(form.json))
    tags = [None if call_format is None else call_format.tag(tool.name) for tool in tools]
    if not schema or not all(tags):
        return None
    structures = [
        {"begin": tag[0], "schema": schema_of_arguments(tool), "end": tag[1]}
        for tool, tag in zip(tools, tags, strict=True)
        if tag is not None
    ]
    return StructuredOutputs(structural_tag={"structures": structures, "otherwise": schema, "only_one": only_one})


def schema_of_arguments(tool: Tool) -> dict[str, Any]:
    """What the arguments of a call are held to: its parameters alone, where they are listed and nothing opens the list.

    Clients drop `additionalProperties`, and a function has no use for an argument that it does not know.
    """
    schema = {"type": "object", **tool.parameters}
    is_closed = "properties" in schema and not _OPENING_KEYWORDS & schema.keys()
    return schema | ({"additionalProperties": False} if is_closed else {})


def _moved(schema: Any, place: str) -> Any:
    """A schema whose references to its own parts lead there from the root of the schema that it becomes a part of."""
    if isinstance(schema, Mapping):
        return {
            key: place + value[1:]
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, place)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    return schema


class NamedCall:
    """The text is the arguments of one call, whose name is known."""

    def __init__(self, name: str, new_id: Callable[[], str]) -> None:
        self._start: Piece | None = CallStart(0, new_id(), name)

    def push(self, text: str) -> list[Piece]:
        if not text:
            return []
        start, self._start = self._start, None
        return [*([start] if start is not None else []), CallArguments(0, text)]

    def finish(self) -> list[Piece]:
        return []


class ListedCalls:
    """The text is a list as `schema_of_calls` describes it."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._text = ""  # not told yet; in arguments, all of them
        self._num_calls = 0
        self._end: ClosingBracket | None = None  # of the arguments that are being written
        self._num_told = 0  # characters of them

    def push(self, text: str) -> list[Piece]:
        self._text += text
        pieces: list[Piece] = []
        while True:
            if self._end is None:
                head = _HEAD.match(self._text)
                if head is None:
                    return pieces
                pieces.append(CallStart(self._num_calls, self._new_id(), parse_json(head["name"])))
                self._text = self._text[head.end() :]
                self._end, self._num_told = ClosingBracket(0), 0
            size = self._end.find(self._text)
            new = self._text[self._num_told : size]
            if new:
                pieces.append(CallArguments(self._num_calls, new))
            if size is None:
                self._num_told = len(self._text)
                return pieces
            self._num_calls += 1
            self._text, self._end = self._text[size:], None

    def finish(self) -> list[Piece]:
        return []  # what was cut before a call has its name is not content
