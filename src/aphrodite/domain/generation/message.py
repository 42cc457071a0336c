"""What the assistant says, in pieces as they come and as a whole."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ChatFinishReason = Literal["stop", "length", "abort", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Content:
    """More of the answer itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A tool call begins; its arguments follow, before another one begins."""

    number: int  # among the message's calls, from 0
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next characters of a call's arguments, which are a JSON object in the end."""

    number: int
    text: str


Piece = Content | Reasoning | CallStart | CallArguments


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks to have called."""

    id: str
    name: str
    arguments: str  # a JSON object, unless the message was cut off, or the model wrote something else


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """A whole message."""

    content: str | None  # None where there are only calls, or only reasoning
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]


def assemble(pieces: Iterable[Piece]) -> AssistantMessage:
    """The message that its pieces make."""
    content: list[str] = []
    reasoning: list[str] = []
    starts: list[CallStart] = []
    arguments: list[list[str]] = []
    for piece in pieces:
        match piece:
            case Content(text):
                content.append(text)
            case Reasoning(text):
                reasoning.append(text)
            case CallStart():
                starts.append(piece)
                arguments.append([])
            case CallArguments(number, text):
                arguments[number].append(text)
    calls = tuple(
        ToolCall(start.id, start.name, "".join(texts)) for start, texts in zip(starts, arguments, strict=True)
    )
    has_content = content or not (reasoning or calls)
    return AssistantMessage("".join(content) if has_content else None, "".join(reasoning) or None, calls)
