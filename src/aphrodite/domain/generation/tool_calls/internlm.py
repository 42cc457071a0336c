"""InternLM's format, and that of InternVL over it.

<|action_start|><|plugin|>
{"name": "weather", "parameters": {"city": "Paris"}}<|action_end|>
"""

import re
from collections.abc import Mapping

from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.ends import ClosingTag
from aphrodite.domain.generation.tool_calls.values import NAMED, json_call, parse_json
from aphrodite.domain.prompting.tools import Tool

_OPENING, _PLUGIN, _CLOSING = "<|action_start|>", "<|plugin|>", "<|action_end|>"
_CALL = re.compile(r"<\|action_start\|>\s*<\|plugin\|>(.*)", re.DOTALL)


class InternLm(CallFormat):
    openings = (_OPENING,)
    openings_at_start = ()
    separators = ""
    markup = (_OPENING, _PLUGIN, _CLOSING)
    id_chars = None
    head = re.compile(rf"<\|action_start\|>\s*<\|plugin\|>\s*{NAMED}")

    def end(self, opening: str) -> End:
        return ClosingTag(_CLOSING, len(opening), in_json=True)

    def rest(self) -> End:
        return ClosingTag(_CLOSING, 0, in_json=True)

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:  # noqa: ARG002
        call = _CALL.fullmatch(stretch.removesuffix(_CLOSING))
        if call is None:
            raise ValueError("no call")  # of the interpreter, say, which takes code
        return [json_call(parse_json(call[1]))]
