"""Chat messages: checked, and brought into one form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aphrodite.domain.errors import ImageError, PromptError, ToolError
from aphrodite.domain.prompting.json_object import JsonObject
from aphrodite.domain.prompting.prompts import check_num_images

_MAX_DEPTH = 100  # of lists and objects in each other
_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class TextPart:
    """Words of a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The place of an image in a message."""


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One message, its parts in the order they were given."""

    role: str
    parts: tuple[Part, ...]
    is_string: bool  # given as a string, not as parts
    extra: Mapping[str, Any] = field(default_factory=dict)  # what else it has, plain JSON values: name, tool_calls ...

    @property
    def text(self) -> str:
        """The text parts, a line each."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def num_images(self) -> int:
        return sum(isinstance(part, ImagePart) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and the images among them, in order."""

    messages: tuple[Message, ...]
    images: tuple[Any, ...] = ()  # PIL images, opaque to the domain; a string is the URL of one yet to be fetched
    tools: tuple[Mapping[str, Any], ...] = ()  # what may be called, plain JSON values: {"type": "function", ...}

    @property
    def num_chars(self) -> int:
        """Characters of all that templates may show; a picture has none."""
        messages = sum(_num_chars(message.extra) + len(message.text) for message in self.messages)
        return messages + sum(map(_num_chars, self.tools))


def parse(messages: object, max_images: int, tools: object = ()) -> Conversation:
    """Check a conversation: a list of messages, each with a role and a content, a string or a list of parts.

    Parts are those of OpenAI's APIs, `{"type": "text", "text": ...}` and `{"type": "image_url", "image_url": {"url":
    ...}}` (or the bare URL), also as `"input_text"` and `"input_image"`, and `{"type": "image_pil", "image_pil": PIL
    image}`, also as `"image"`. `tools` is a list of `{"type": "function", "function": {"name": ...}}`, or None.

    Raises PromptError or ImageError, with a sentence that says what to pass.
    """
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise PromptError(f'Messages must be a list of {{"role": ..., "content": ...}}, got {_type_name(messages)}.')
    if not messages:
        raise PromptError("The conversation is empty; it needs at least one message.")
    images: list[object] = []
    parsed = tuple(_parse_message(message, images) for message in messages)
    check_num_images(len(images), max_images)
    return Conversation(parsed, tuple(images), _parse_tools(tools))


def _parse_tools(tools: object) -> tuple[Mapping[str, Any], ...]:
    given = () if tools is None else tools
    if not isinstance(given, list | tuple) or not all(isinstance(tool, Mapping) for tool in given):
        raise ToolError('tools must be a list of {"type": "function", "function": {"name": ..., ...}}.')
    return tuple(_plain(tool, "A tool") for tool in given)


def _parse_message(message: object, images: list[object]) -> Message:
    if not isinstance(message, Mapping):
        raise PromptError(f'A message must be {{"role": ..., "content": ...}}, got {_type_name(message)}.')
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise PromptError(f"The role of a message must be one of {', '.join(_ROLES)}, got {_shown(role)}.")
    extra = {
        str(key): _plain(value, f'"{key}" of a message')
        for key, value in message.items()
        if key not in ("role", "content") and value is not None
    }
    _read_arguments(extra)
    if content is None or isinstance(content, str):
        return Message(str(role), (TextPart(str(content or "")),), True, extra)
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise PromptError(f"The content of a message must be a string or a list of parts, got {_type_name(content)}.")
    if not content:
        raise PromptError("The content of a message is an empty list; it needs at least one part.")
    return Message(str(role), tuple(_parse_part(part, images) for part in content), False, extra)


def _read_arguments(extra: Mapping[str, Any]) -> None:
    """Have the arguments of former turns' calls ready for templates, whether they came as JSON or as an object."""
    calls = [extra.get("function_call")]
    for call in tools if isinstance(tools := extra.get("tool_calls"), list) else []:
        calls.append(call.get("function", call) if isinstance(call, dict) else None)
    for call in calls:
        arguments = call.get("arguments") if isinstance(call, dict) else None
        if isinstance(call, dict) and isinstance(arguments, str):
            call["arguments"] = JsonObject.parse(arguments)
            _plain(call["arguments"], "The arguments of a call")  # to hear of what is nested too deeply
        elif isinstance(call, dict) and isinstance(arguments, dict):
            call["arguments"] = JsonObject(arguments)


def _parse_part(part: object, images: list[object]) -> Part:
    if not isinstance(part, Mapping):
        raise PromptError(f'A part of a message must be {{"type": ...}}, got {_type_name(part)}.')
    match part.get("type"):
        case "text" | "refusal" | "input_text" as kind:
            key = kind.removeprefix("input_")
            text = part.get(key)
            if not isinstance(text, str):
                raise PromptError(f'A {kind} part needs its "{key}", a string, got {_type_name(text)}.')
            return TextPart(str(text))
        case "image_url" | "input_image" as kind:
            value = part.get("image_url")
            if value is None and part.get("uuid") is not None:
                raise PromptError(
                    "An image cannot be asked for by its uuid. Send the image itself each time; what was computed of "
                    "it is found again by its content."
                )
            url = value.get("url") if isinstance(value, Mapping) else value
            if not isinstance(url, str) or not url:
                raise PromptError(f'An {kind} part needs {{"image_url": {{"url": ...}}}}, the URL a string.')
            images.append(str(url))
        case "image_pil" | "image" as kind:
            image = part.get(kind)
            if image is None or isinstance(image, str | bytes):
                raise ImageError(
                    f'"{kind}" must be a PIL image or a pathlib.Path, got {_type_name(image)}; '
                    "a URL belongs in image_url."
                )
            images.append(image)
        case other:
            raise PromptError(f"The type of a part must be text, image_url or image_pil, got {_shown(other)}.")
    return ImagePart()


def _plain(value: object, where: str, depth: int = 0) -> Any:
    """A copy that holds plain JSON values only: templates see no object of ours."""
    if depth > _MAX_DEPTH:
        raise PromptError(f"{where} is nested too deeply; at most {_MAX_DEPTH} levels are read.")
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where, depth + 1) for item in value]
    raise PromptError(f"{where} must hold plain JSON values, got {_type_name(value)}.")


def _num_chars(value: object) -> int:
    if isinstance(value, Mapping):
        return sum(len(key) + _num_chars(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(_num_chars, value))
    return len(value) if isinstance(value, str) else 1


def _shown(value: object) -> str:
    return "none" if value is None else repr(value)[:80]


def _type_name(value: object) -> str:
    return "None" if value is None else type(value).__name__
