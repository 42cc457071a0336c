"""Gemma's formats: that of Gemma 4, that of FunctionGemma, and the fence that Gemma 3's guide asks for.

<|tool_call>call:weather{city:<|"|>Paris<|"|>,days:3}<tool_call|>
<start_function_call>call:weather{city:<escape>Paris<escape>,days:3}<end_function_call>
```tool_code
weather(city="Paris", days=3)
```
"""

import re
from collections.abc import Mapping
from itertools import cycle

from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.ends import ClosingTag
from aphrodite.domain.generation.tool_calls.pythonic import read_python
from aphrodite.domain.generation.tool_calls.values import make_call, parse_json, write_json
from aphrodite.domain.prompting.tools import Tool

_CLOSINGS = {"<|tool_call>": "<tool_call|>", "<start_function_call>": "<end_function_call>", "```tool_code": "```"}
_QUOTES = {"<|tool_call>": '<|"|>', "<start_function_call>": "<escape>"}
_CALL = re.compile(r"\s*call:\s*([^\s{}]+)\s*(\{.*\})\s*", re.DOTALL)
_BARE_KEY = re.compile(r'([{,]\s*)([^\s"{}\[\],:]+)(\s*:)')
_FENCED_LINE = re.compile(r"\s*(?:print\((?P<printed>.*)\)|(?P<bare>.*))", re.DOTALL)


class Gemma(CallFormat):
    openings = tuple(_CLOSINGS)
    openings_at_start = ()
    separators = ""
    markup = (*_QUOTES, *(_CLOSINGS[opening] for opening in _QUOTES), *_QUOTES.values())
    id_chars = None

    def end(self, opening: str) -> End:
        return ClosingTag(_CLOSINGS[opening], len(opening), in_json=False)

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:  # noqa: ARG002
        opening = next(opening for opening in _CLOSINGS if stretch.startswith(opening))
        body = stretch.removeprefix(opening).removesuffix(_CLOSINGS[opening])
        if opening not in _QUOTES:
            return _read_fenced(body)
        call = _CALL.fullmatch(body)
        if call is None:
            raise ValueError("no call")
        return [make_call(call[1], parse_json(_json(call[2], _QUOTES[opening])))]


def _json(text: str, quote: str) -> str:
    """The same in JSON: strings stand between two quotes of Gemma's, and keys are bare."""
    pieces = zip(text.split(quote), cycle((False, True)))
    return "".join(write_json(piece) if is_string else _BARE_KEY.sub(r'\1"\2"\3', piece) for piece, is_string in pieces)


def _read_fenced(body: str) -> list[Call]:
    printed = _FENCED_LINE.fullmatch(body.strip())
    assert printed is not None
    return read_python(printed["printed"] or printed["bare"])
