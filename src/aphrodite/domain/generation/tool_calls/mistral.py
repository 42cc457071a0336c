"""Mistral's formats: a list, and in newer models a token before the arguments of each call.

[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}}]
[TOOL_CALLS]weather[ARGS]{"city": "Paris"}
[TOOL_CALLS]weather[CALL_ID]a1B2c3D4e[ARGS]{"city": "Paris"}
"""

import re
from collections.abc import Mapping

from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.ends import ClosingBracket
from aphrodite.domain.generation.tool_calls.values import json_call, make_call, parse_json
from aphrodite.domain.prompting.tools import Tool

_OPENING = "[TOOL_CALLS]"
_HEAD = r"\s*(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\](?P<id>[^\[\]{}]*))?(?:\[ARGS\])?\s*(?=\{)"
_CALL = re.compile(rf"{_HEAD}(?P<arguments>.*)", re.DOTALL)


class Mistral(CallFormat):
    openings = (_OPENING,)
    openings_at_start = ()
    separators = ""
    markup = (_OPENING, "[CALL_ID]", "[ARGS]")
    id_chars = 9
    head = re.compile(rf"\[TOOL_CALLS\]{_HEAD}")

    def end(self, opening: str) -> End:
        return ClosingBracket(len(opening))

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:  # noqa: ARG002
        body = stretch.removeprefix(_OPENING)
        if body.lstrip().startswith("["):
            return [json_call(item) for item in parse_json(body)]
        call = _CALL.fullmatch(body)
        if call is None:
            raise ValueError("no call")
        return [make_call(call["name"], parse_json(call["arguments"]), call["id"] or None)]
