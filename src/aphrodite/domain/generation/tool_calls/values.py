"""What models write as names, arguments and values, to JSON. Whatever is none raises ValueError."""

import ast
import json
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from aphrodite.domain.generation.tool_calls.call_format import Call
from aphrodite.domain.prompting.tools import Tool

NAMED = r'\{\s*"name"\s*:\s*"(?P<name>[^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
"""What stands before the arguments of `json_call`'s value, as most models write it."""


def parse_json(text: str) -> Any:
    """A JSON value; strings may hold line breaks as they are, which models write."""
    try:
        return json.loads(text, strict=False, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_literal(text: str) -> Any:
    """The value of a Python literal, also with JSON's words for True, False and None."""
    return literal(parse_python(text))


def parse_python(text: str) -> ast.expr:
    """One Python expression."""
    try:
        with warnings.catch_warnings():  # of what a model's strings look like
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("no Python") from error


def literal(node: ast.expr) -> Any:
    """The value of an expression that is a literal."""
    words = {"true": True, "false": False, "null": None}
    match node:
        case ast.Name(id) if id in words:
            return words[id]
        case ast.List(elts) | ast.Tuple(elts):
            return [literal(item) for item in elts]
        case ast.Dict(keys, values):
            return {_key(key): literal(value) for key, value in zip(keys, values, strict=True)}
    value = ast.literal_eval(node)
    if not isinstance(value, str | int | float | None):
        raise ValueError("no JSON value")
    return value


def json_call(value: object) -> Call:
    """The call that `{"name": ..., "arguments" or "parameters": {...}}` stands for."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError("no call")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = parse_json(arguments)
    call_id = value.get("id")
    return make_call(
        value["name"], {} if arguments is None else arguments, call_id if isinstance(call_id, str) else None
    )


def make_call(name: str, arguments: object, call_id: str | None = None) -> Call:
    """A call whose arguments are a mapping."""
    if not isinstance(arguments, Mapping) or not name or not name.isprintable():
        raise ValueError("no call")
    return Call(name, write_json(arguments), call_id)


def write_json(value: object) -> str:
    """The JSON text of a value."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError("no JSON value") from error
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value)
    return text


def typed_call(name: str, texts: Iterable[tuple[str, str]], tools: Mapping[str, Tool]) -> Call:
    """A call whose arguments come as text; the tool's schema says which of them are strings."""
    tool = tools.get(name)
    properties = tool.parameters.get("properties") if tool is not None else None
    schemas = properties if isinstance(properties, Mapping) else {}
    return make_call(name, {key: _typed(text, _types(schemas.get(key))) for key, text in texts})


def _typed(text: str, types: set[str]) -> Any:
    if "null" in types and text.strip() in ("null", "None"):
        return None
    if "string" in types:
        return text
    for parse in (parse_json, parse_literal):
        try:
            return parse(text)
        except ValueError:
            continue
    return text


def _types(schema: object) -> set[str]:
    """The types that a schema allows, as far as it names them."""
    if not isinstance(schema, Mapping):
        return set()
    named = schema.get("type")
    types = {named} if isinstance(named, str) else {item for item in named or () if isinstance(item, str)}
    for several in ("anyOf", "oneOf"):
        options = schema.get(several)
        for option in options if isinstance(options, list) else ():
            types |= _types(option)
    choices = schema.get("enum")
    if isinstance(choices, list) and any(isinstance(choice, str) for choice in choices):
        types.add("string")
    return types


def _key(node: ast.expr | None) -> str:
    value = None if node is None else literal(node)
    if not isinstance(value, str):
        raise ValueError("no JSON value")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")
