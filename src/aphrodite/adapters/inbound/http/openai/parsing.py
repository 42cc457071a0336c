"""What a body of the OpenAI API may hold: which fields are not followed yet, and which are unknown."""

from typing import Any, TypeVar, get_args

import msgspec
from starlette.requests import Request

from aphrodite.adapters.inbound.http import request_body
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.openai.messages import Message, Part
from aphrodite.adapters.inbound.http.openai.requests import GenerationFields

T = TypeVar("T", bound=msgspec.Struct)

# Fields of the OpenAI reference, and of other servers, that change the answer and that we do not follow: the values
# with which they ask for nothing. To ignore another value in silence would give an answer to another question.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "verbosity": ("medium",),
    "web_search_options": (),
    "moderation": (),
    "suffix": ("",),
    "use_beam_search": (False,),
    "length_penalty": (1, 1.0),
    "documents": ([],),
    "mm_processor_kwargs": ({},),  # of text completions, which read no pictures
    "allowed_token_ids": (),
    "logits_processors": ([],),
}
_SUCCESSORS = {"functions": "use tools", "function_call": "use tool_choice"}
# Fields that may be ignored because the answer does not depend on them.
_IGNORED = {
    "metadata",
    "store",  # nothing is kept of a chat
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "guided_decoding_backend",
}

_MESSAGE_KINDS: dict[str, type[msgspec.Struct]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Message)}
_PART_FIELDS = {str(kind.__struct_config__.tag): {"type", *kind.__struct_fields__} for kind in get_args(Part)}


async def read_request(request: Request, kind: type[T]) -> T:
    """Decode and validate the body, a large one off the event loop. Raises InvalidRequestError."""
    asked = await request_body.read_body(request, kind, _check_fields)
    if isinstance(asked, GenerationFields) and asked.request_id is not None:
        request.state.request_id = asked.request_id
    return asked


def parse_body(body: bytes, kind: type[T]) -> tuple[T, list[str]]:
    """Decode and validate; names the unknown fields that were ignored, too. Raises InvalidRequestError."""
    return request_body.parse_body(body, kind, _check_fields)


def _check_fields(fields: dict[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    """Names unknown fields. Raises InvalidRequestError for known ones that are not supported."""
    known = set(kind.__struct_fields__)
    for name in sorted(fields.keys() & (_UNSUPPORTED.keys() - known)):
        value = fields[name]
        if value is not None and value not in _UNSUPPORTED[name]:
            what_to_do = _SUCCESSORS.get(name, "leave it out")
            raise InvalidRequestError(f"{name} is not supported yet; {what_to_do}.", name, "unsupported_parameter")
    unknown = sorted(fields.keys() - known - _UNSUPPORTED.keys() - _IGNORED)
    if fields.get("stream_options") is not None and not fields.get("stream"):
        unknown.append("stream_options")
    if "messages" in known:
        unknown += sorted(_unknown_in_messages(fields.get("messages")))
    return unknown


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
