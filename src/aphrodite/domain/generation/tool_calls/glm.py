"""GLM-4.5's format, and its successors', who write no line breaks.

<tool_call>weather
<arg_key>city</arg_key>
<arg_value>Paris</arg_value>
</tool_call>
"""

import re
from collections.abc import Mapping

from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.ends import ClosingTag
from aphrodite.domain.generation.tool_calls.values import typed_call
from aphrodite.domain.prompting.tools import Tool

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_TAGS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
_ARGUMENT = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>\s*", re.DOTALL)


class Glm(CallFormat):
    openings = (_OPENING,)
    openings_at_start = ()
    separators = ""
    markup = (_OPENING, _CLOSING, *_TAGS)
    id_chars = None

    def end(self, opening: str) -> End:
        return ClosingTag(_CLOSING, len(opening), in_json=False)

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:
        body = stretch.removeprefix(_OPENING).removesuffix(_CLOSING)
        name = body.split("<arg_key>", 1)[0]
        arguments = body[len(name) :]
        if len(name.split()) != 1 or _ARGUMENT.sub("", arguments).strip():
            raise ValueError("no call")
        pairs = [(key.strip(), value) for key, value in _ARGUMENT.findall(arguments)]
        return [typed_call(name.strip(), pairs, tools)]
