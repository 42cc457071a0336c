"""Qwen3-Coder's format, and Qwen3.5's: an element for each argument.

<tool_call>
<function=weather>
<parameter=city>
Paris
</parameter>
</function>
</tool_call>
"""

import re
from collections.abc import Mapping

from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.ends import ClosingTag
from aphrodite.domain.generation.tool_calls.values import typed_call
from aphrodite.domain.prompting.tools import Tool

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_CALL = re.compile(
    r"(?:<tool_call>)?\s*<function=(?P<name>[^>\n]+)>(?P<arguments>.*?)(?:</function>)?\s*(?:</tool_call>)?", re.DOTALL
)
_ARGUMENT = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>\s*", re.DOTALL)


class Qwen3Coder(CallFormat):
    openings = (_OPENING, "<function=")  # some leave the outer tag out
    openings_at_start = ()
    separators = ""
    markup = (_OPENING, _CLOSING)
    id_chars = None

    def end(self, opening: str) -> End:
        return ClosingTag(_CLOSING if opening == _OPENING else "</function>", len(opening), in_json=False)

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:
        call = _CALL.fullmatch(stretch)
        if call is None or _ARGUMENT.sub("", call["arguments"]).strip():
            raise ValueError("no call")
        return [typed_call(call["name"].strip(), _ARGUMENT.findall(call["arguments"]), tools)]
