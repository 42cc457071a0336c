"""A request's body to its type: what is missing, wrong, unsupported or unknown."""

import asyncio
import codecs
import logging
import re
from typing import Any, TypeVar, get_args

import msgspec
from starlette.requests import Request

from aphrodite.adapters.inbound.http.errors import InvalidRequestError, shortened
from aphrodite.adapters.inbound.http.openai.messages import Message, Part
from aphrodite.adapters.inbound.http.openai.protocol import ChatCompletionRequest
from aphrodite.adapters.inbound.http.request_note import note_of
from aphrodite.adapters.inbound.http.service import service_of

T = TypeVar("T", bound=msgspec.Struct)

_logger = logging.getLogger(__name__)

# Fields of the OpenAI reference, and of other servers, that change the answer and that we do not follow: the values
# with which they ask for nothing. To ignore another value in silence would give an answer to another question.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "verbosity": ("medium",),
    "web_search_options": (),
    "store": (False,),
    "moderation": (),
    "best_of": (1,),
    "suffix": ("",),
    "use_beam_search": (False,),
    "length_penalty": (1, 1.0),
    "prompt_logprobs": (),
    "documents": ([],),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "logits_processors": ([],),
    "typical_p": (1, 1.0),
    "top_a": (0, 0.0),
    "tfs": (1, 1.0),
    "mirostat_mode": (0,),
}
# Fields that may be ignored because the answer does not depend on them.
_IGNORED = {
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
}

_MESSAGE_KINDS: dict[str, type[msgspec.Struct]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Message)}
_PART_FIELDS = {str(kind.__struct_config__.tag): {"type", *kind.__struct_fields__} for kind in get_args(Part)}

_MAX_SMALL_BYTES = 64 * 1024  # of a body that is decoded on the event loop
_MAX_VALUES = 1 << 20  # of JSON in one body
_MAX_SENTENCE_CHARS = 1000  # of the decoder's, which may hold what the client wrote
_MAX_NAMED, _MAX_NAME_CHARS = 20, 64  # of unknown fields
_PATH = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*?)`)?$", re.DOTALL)


async def read_request(request: Request, kind: type[T]) -> T:
    """Decode and validate the body, a large one off the event loop. Raises InvalidRequestError."""
    body = (await request.receive())["body"]  # BodyLayer hands it over whole
    if len(body) <= _MAX_SMALL_BYTES:
        asked, ignored = parse_body(body, kind)
    else:
        executor = service_of(request).body_executor
        asked, ignored = await asyncio.get_running_loop().run_in_executor(executor, parse_body, body, kind)
    if ignored:
        _logger.warning("Ignored unknown fields of a request: %s", ", ".join(map(ascii, ignored)))
        note_of(request.scope).ignored_fields = ignored
    return asked


def parse_body(body: bytes, kind: type[T]) -> tuple[T, list[str]]:
    """Decode and validate; names the unknown fields that were ignored, too. Raises InvalidRequestError."""
    body = body.removeprefix(codecs.BOM_UTF8)
    if len(body) > _MAX_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        # Each costs memory far above its length, before anything can be said of it.
        raise InvalidRequestError(f"The body holds too many commas and brackets; at most {_MAX_VALUES} are read.")
    try:
        fields = msgspec.json.decode(body)
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError("The body is not valid JSON.") from error
    if not isinstance(fields, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    ignored = _check_fields(fields, kind)
    try:
        return msgspec.convert(_whole_numbers(fields), kind, str_keys=True), ignored
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply.") from error
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


def _whole_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with 6 in the place of 6.0: JSON knows one kind of number, and schemas call either an integer."""
    return {name: _whole_number(value) for name, value in fields.items()}


def _whole_number(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list) and any(isinstance(item, float) for item in value):
        return [_whole_number(item) for item in value]
    return value


def _check_fields(fields: dict[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    """Names unknown fields. Raises InvalidRequestError for known ones that are not supported."""
    known = set(kind.__struct_fields__)
    for name in sorted(fields.keys() & (_UNSUPPORTED.keys() - known)):
        value = fields[name]
        if value is not None and value not in _UNSUPPORTED[name]:
            raise InvalidRequestError(f"{name} is not supported yet; leave it out.", name, "unsupported_parameter")
    response_format = fields.get("response_format")
    if kind is ChatCompletionRequest and isinstance(response_format, dict):
        asked = response_format.get("type")
        if isinstance(asked, str) and asked != "text":
            raise InvalidRequestError(
                'response_format is supported with {"type": "text"} only.', "response_format", "unsupported_parameter"
            )
    unknown = sorted(fields.keys() - known - _UNSUPPORTED.keys() - _IGNORED)
    if "messages" in known:
        unknown += sorted(_unknown_in_messages(fields.get("messages")))
    return [name[:_MAX_NAME_CHARS] for name in unknown[:_MAX_NAMED]]


def _unknown_in_messages(messages: object) -> set[str]:
    """Fields of messages and of their parts that no template will see."""
    unknown = set()
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        kind = _MESSAGE_KINDS.get(str(message.get("role")))
        if kind is not None:
            unknown |= {f"messages[].{name}" for name in message.keys() - set(kind.__struct_fields__) - {"role"}}
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and str(part.get("type")) in _PART_FIELDS:
                names = part.keys() - _PART_FIELDS[str(part["type"])]
                unknown |= {f"messages[].content[].{name}" for name in names}
    return unknown


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
