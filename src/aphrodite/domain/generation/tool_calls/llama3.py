"""Llama 3's format: the message is JSON, which may stand behind a token of its own; several calls are separated by ";".

<|python_tag|>{"name": "weather", "parameters": {"city": "Paris"}}
"""

import re
from collections.abc import Mapping

from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.ends import ClosingBracket
from aphrodite.domain.generation.tool_calls.values import NAMED, json_call, parse_json
from aphrodite.domain.prompting.tools import Tool

_OPENING = "<|python_tag|>"


class Llama3(CallFormat):
    openings = (_OPENING,)
    openings_at_start = ("{",)
    separators = ";"
    markup = (_OPENING,)
    id_chars = None
    head = re.compile(rf"(?:<\|python_tag\|>\s*)?{NAMED}")

    def end(self, opening: str) -> End:
        return ClosingBracket(len(opening) if opening == _OPENING else 0)

    def rest(self) -> End:
        return ClosingBracket(0, num_open=1)

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:  # noqa: ARG002
        return [json_call(parse_json(stretch.removeprefix(_OPENING)))]
