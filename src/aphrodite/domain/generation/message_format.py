"""How a model marks its thoughts and its tool calls."""

from dataclasses import dataclass

from aphrodite.domain.generation.reasoning import ReasoningTags, find_reasoning_tags
from aphrodite.domain.generation.tool_calls.call_format import CallFormat
from aphrodite.domain.generation.tool_calls.formats import find_call_format


@dataclass(frozen=True, slots=True)
class MessageFormat:
    """What is looked for in a model's text; None for what is not."""

    calls: CallFormat | None = None
    reasoning: ReasoningTags | None = None


def find_message_format(template: str, tool_call_parser: str | None, reasoning_parser: str | None) -> MessageFormat:
    """What a chat template's text asks for, unless names say otherwise; "none" is one. Raises ConfigError."""
    return MessageFormat(find_call_format(tool_call_parser, template), find_reasoning_tags(reasoning_parser, template))
