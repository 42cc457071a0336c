"""Calls in Python, as Llama 3.2 and Llama 4 write them.

[weather(city="Paris"), time(zone="CET")]
<|python_start|>[weather(city="Paris")]<|python_end|>
"""

import ast
from collections.abc import Mapping

from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.ends import ClosingBracket, ClosingTag
from aphrodite.domain.generation.tool_calls.values import literal, make_call, parse_python
from aphrodite.domain.prompting.tools import Tool

_OPENING, _CLOSING = "<|python_start|>", "<|python_end|>"


class Pythonic(CallFormat):
    openings = (_OPENING,)
    openings_at_start = ("[",)
    separators = ""
    markup = (_OPENING, _CLOSING)
    id_chars = None

    def end(self, opening: str) -> End:
        if opening == _OPENING:
            return ClosingTag(_CLOSING, len(opening), in_json=False)
        return ClosingBracket(0, quotes="\"'")

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:  # noqa: ARG002
        return read_python(stretch.removeprefix(_OPENING).removesuffix(_CLOSING))


def read_python(text: str) -> list[Call]:
    """One call, or a list of calls, with literals by keyword. Raises ValueError."""
    expression = parse_python(text)
    return [_call(item) for item in (expression.elts if isinstance(expression, ast.List) else [expression])]


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args or not isinstance(node.func, ast.Name | ast.Attribute):
        raise ValueError("no call")
    arguments = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError("no call")
        arguments[keyword.arg] = literal(keyword.value)
    name = ast.unparse(node.func)
    if not name.replace(".", "").isidentifier():
        raise ValueError("no call")
    return make_call(name, arguments)
