"""Hermes 2 Pro's format, and Qwen2.5's and Qwen3's: JSON in tags.

<tool_call>
{"name": "weather", "arguments": {"city": "Paris"}}
</tool_call>
"""

import json
import re
from collections.abc import Mapping

from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.ends import ClosingTag
from aphrodite.domain.generation.tool_calls.values import NAMED, json_call, parse_json
from aphrodite.domain.prompting.tools import Tool

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"


class Hermes(CallFormat):
    openings = (_OPENING,)
    openings_at_start = ()
    separators = ""
    markup = (_OPENING, _CLOSING)
    id_chars = None
    head = re.compile(rf"{_OPENING}\s*{NAMED}")

    def tag(self, name: str) -> tuple[str, str]:
        return f'{_OPENING}\n{{"name": {json.dumps(name)}, "arguments": ', f"}}\n{_CLOSING}"

    def end(self, opening: str) -> End:
        return ClosingTag(_CLOSING, len(opening), in_json=True)

    def rest(self) -> End:
        return ClosingTag(_CLOSING, 0, in_json=True)

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:  # noqa: ARG002
        return [json_call(parse_json(stretch.removeprefix(_OPENING).removesuffix(_CLOSING)))]
