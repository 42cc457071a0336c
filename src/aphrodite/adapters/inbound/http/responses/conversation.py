"""Items of the Responses API to the chat messages that templates know."""

from collections.abc import Iterable, Mapping
from typing import Any

from aphrodite.adapters.inbound.http.errors import InvalidRequestError

_TEXT_PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")


def to_items(given: str | list[dict[str, Any]], request_id: str) -> list[dict[str, Any]]:
    """The input as items, each with an id."""
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [{"id": f"in_{request_id}_{number}", **_typed(item)} for number, item in enumerate(given)]


def to_messages(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A message each, but what belongs to one answer, its reasoning and its calls, is one message.

    Raises InvalidRequestError for items that are no part of a conversation here; what messages hold is checked later.
    """
    messages: list[dict[str, Any]] = []
    is_answer_open = False
    for index, item in enumerate(items):
        kind, role = item.get("type"), item.get("role")
        if kind == "message" and role != "assistant":
            messages.append({"role": role, "content": _content(item.get("content"))})
            is_answer_open = False
        elif kind == "function_call_output":
            messages.append(
                {"role": "tool", "tool_call_id": item.get("call_id"), "content": _content(item.get("output"))}
            )
            is_answer_open = False
        elif kind in ("message", "function_call", "reasoning"):
            if not is_answer_open:
                messages.append({"role": "assistant", "content": None})
                is_answer_open = True
            _add(messages[-1], kind, item)
        else:
            raise InvalidRequestError(
                f"Items of the type {str(kind)[:100]!r} are not supported.", f"input[{index}].type", "unsupported_value"
            )
    return messages


def _add(answer: dict[str, Any], kind: str, item: Mapping[str, Any]) -> None:
    if kind == "message":
        answer["content"] = (answer["content"] or "") + _text(item.get("content"))
    elif kind == "reasoning":
        words = _text(item.get("content")) or _text(item.get("summary"))
        if words:
            answer["reasoning_content"] = answer.get("reasoning_content", "") + words
    else:
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        answer.setdefault("tool_calls", []).append(
            {"id": item.get("call_id"), "type": "function", "function": function}
        )


def _typed(item: dict[str, Any]) -> dict[str, Any]:
    """An item of which nothing is said but its role is a message."""
    known = {key: value for key, value in item.items() if value is not None}
    return known if "type" in known else {"type": "message", **known}


def _content(given: object) -> object:
    """As chat messages have it; the parts have their names there, too."""
    if not isinstance(given, list):
        return given
    parts = [_part(part) for part in given]
    if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].get("type") == "text":
        return parts[0]["text"]  # templates that take strings get one
    return parts


def _part(part: object) -> object:
    if isinstance(part, dict) and part.get("type") in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    if isinstance(part, dict) and part.get("type") == "input_image":
        return {"type": "image_url", "image_url": part.get("image_url")}
    return part


def _text(given: object) -> str:
    """All words of a former answer."""
    if isinstance(given, str):
        return given
    parts = given if isinstance(given, list) else []
    words = [part.get("text", part.get("refusal")) for part in parts if isinstance(part, dict)]
    return "".join(word for word in words if isinstance(word, str))
