"""A request's body to its type: what is missing, wrong or unknown."""

import asyncio
import codecs
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from aphrodite.adapters.inbound.http.errors import InvalidRequestError, shortened
from aphrodite.adapters.inbound.http.request_note import note_of
from aphrodite.adapters.inbound.http.service import service_of

R = TypeVar("R")
T = TypeVar("T", bound=msgspec.Struct)

FieldCheck = Callable[[dict[str, Any], type[msgspec.Struct]], Iterable[str]]
"""A body's fields and its type -> names of unknown fields. Raises InvalidRequestError for what is not followed."""

_logger = logging.getLogger(__name__)

_MAX_SMALL_BYTES = 64 * 1024  # of a body that is decoded on the event loop
_MAX_VALUES = 1 << 20  # of JSON in one body
_MAX_NESTED = 40_000  # of these objects, lists and strings: what is made of them takes longer than what they are
_MAX_BRACES = 100_000  # some may stand in texts
_MAX_SENTENCE_CHARS = 1000  # of the decoder's, which may hold what the client wrote
_MAX_NAMED, _MAX_NAME_CHARS = 20, 64  # of unknown fields
_PATH = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*?)`)?$", re.DOTALL)


def unknown_fields(fields: dict[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    """Those at the top of a body that its type does not have."""
    return sorted(fields.keys() - set(kind.__struct_encode_fields__))


async def read_body(request: Request, kind: type[T], check: FieldCheck = unknown_fields) -> T:
    """Decode and validate the body, a large one off the event loop. Raises InvalidRequestError."""
    return await read_with(request, partial(parse_body, kind=kind, check=check))


async def read_with(request: Request, read: Callable[[bytes], tuple[R, Sequence[str]]]) -> R:
    """What `read` makes of the body, and which fields it ignored; a large one off the event loop."""
    body = (await request.receive())["body"]  # BodyLayer hands it over whole
    try:
        if len(body) <= _MAX_SMALL_BYTES:
            asked, ignored = read(body)
        else:
            executor = service_of(request).body_executor
            asked, ignored = await asyncio.get_running_loop().run_in_executor(executor, read, body)
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply.", code="invalid_body") from error
    if ignored:
        _logger.warning("Ignored unknown fields of a request: %s", ", ".join(map(ascii, ignored)))
        note_of(request.scope).ignored_fields = ignored
    return asked


def parse_body(body: bytes, kind: type[T], check: FieldCheck = unknown_fields) -> tuple[T, list[str]]:
    """Decode and validate; names the unknown fields that were ignored, too. Raises InvalidRequestError."""
    body = body.removeprefix(codecs.BOM_UTF8)
    if len(body) > _MAX_VALUES and (
        sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES or body.count(b"{") > _MAX_BRACES
    ):
        # Each costs memory far above its length, and an object time, before anything can be said of it.
        raise InvalidRequestError(
            f"The body holds too many commas and brackets; at most {_MAX_VALUES} are read, and {_MAX_BRACES} braces.",
            code="invalid_body",
        )
    try:
        fields = msgspec.json.decode(body)
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply.", code="invalid_body") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError("The body is not valid JSON.", code="invalid_body") from error
    if not isinstance(fields, dict):
        raise InvalidRequestError("The body must be a JSON object.", code="invalid_body")
    if len(body) > _MAX_SMALL_BYTES and (field := _overfull(fields)) is not None:
        raise InvalidRequestError(
            f"{field} holds too much; at most {_MAX_NESTED} objects, lists and strings are read in one request.", field
        )
    ignored = [name[:_MAX_NAME_CHARS] for name in list(check(fields, kind))[:_MAX_NAMED]]
    try:
        return msgspec.convert(_whole_numbers(fields), kind, str_keys=True), ignored
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply.", code="invalid_body") from error
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


def _overfull(fields: dict[str, Any]) -> str | None:
    """The field with which there are too many objects, lists and strings; what else they hold is only counted."""
    num_nested = 0
    for name, field in fields.items():
        left = [field]
        while left:
            value = left.pop()
            if isinstance(value, dict):
                left += value.values()
            elif isinstance(value, list) and not (value and isinstance(value[0], int)):  # ids have limits of their own
                left += value
            num_nested += isinstance(value, dict | list | str)
            if num_nested > _MAX_NESTED:
                return shortened(name, _MAX_NAME_CHARS)
    return None


def _whole_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with 6 in the place of 6.0: JSON knows one kind of number, and schemas call either an integer."""
    return {name: _whole_number(value) for name, value in fields.items()}


def _whole_number(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list) and any(isinstance(item, float) for item in value):
        return [_whole_number(item) for item in value]
    return value


def _invalid(sentence: str) -> InvalidRequestError:
    """The sentence without the decoder's own way to write a path: `messages[0].content must be ...`."""
    match = _PATH.match(shortened(sentence, _MAX_SENTENCE_CHARS))
    what, path = (match["what"], match["path"]) if match else (sentence, None)
    param = (path or "").lstrip(".") or None
    missing = re.match(r"Object missing required field `(.*)`", what)
    if missing:
        param = f"{param}.{missing[1]}" if param else missing[1]
        return InvalidRequestError(f"{param} is missing.", param, "missing_required_parameter")
    what = what.replace("`", "").replace("array", "a list")
    what = re.sub(r"^Expected (.*?)(?:, got (.*))?$", _expected, what)
    for sign, words in ((" >= ", " of at least "), (" <= ", " of at most "), (" > ", " above "), (" < ", " below ")):
        what = what.replace(sign, words)
    what = re.sub(r"^Invalid (?:enum )?value ", "has the unknown value ", what)
    subject = f"Each key of {param}" if " - at `key` in " in sentence else param or "The body"
    return InvalidRequestError(f"{subject} {what}.", param, "invalid_value")


def _expected(match: re.Match[str]) -> str:
    """`Expected int | null, got str` -> `must be an integer or null, got a string`."""
    names = {
        "int": "an integer",
        "float": "a number",
        "str": "a string",
        "bool": "true or false",
        "object": "an object",
    }

    def in_json(text: str) -> str:
        return re.sub(r"\b(int|float|str|bool|object)\b", lambda word: names[word[0]], text).replace(" | ", " or ")

    got = f", got {in_json(match[2])}" if match[2] else ""
    return f"must be {in_json(match[1])}{got}"
