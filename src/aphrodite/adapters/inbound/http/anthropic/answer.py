"""What the chat core answers, as Anthropic's messages and events."""

from collections.abc import Iterator

import msgspec

from aphrodite.adapters.inbound.http.anthropic.protocol import (
    AnthropicUsage,
    BlockDelta,
    BlockStart,
    BlockStop,
    Event,
    InputJsonDelta,
    MessageEnd,
    OutputBlock,
    SignatureDelta,
    StopReason,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
)
from aphrodite.adapters.inbound.http.generation import TokenUsage
from aphrodite.domain.generation.message import (
    AssistantMessage,
    CallArguments,
    CallStart,
    ChatFinishReason,
    Content,
    Piece,
    Reasoning,
)

_STOP_REASONS: dict[ChatFinishReason, StopReason] = {"length": "max_tokens", "tool_calls": "tool_use"}


def written_blocks(message: AssistantMessage) -> list[OutputBlock]:
    """A whole answer, block by block."""
    blocks: list[OutputBlock] = []
    if message.reasoning:
        blocks.append(ThinkingBlock(message.reasoning))
    if message.content:
        blocks.append(TextBlock(message.content))
    blocks += [ToolUseBlock(call.id, call.name, _input(call.arguments)) for call in message.tool_calls]
    return blocks


def written_usage(used: TokenUsage) -> AnthropicUsage:
    """Counts of tokens, those of the prompt in two parts."""
    return AnthropicUsage(
        input_tokens=used.num_prompt_tokens - used.num_cached_tokens,
        cache_read_input_tokens=used.num_cached_tokens,
        output_tokens=used.num_output_tokens,
    )


def written_end(finish_reason: ChatFinishReason | None, stop_reason: int | str | None) -> MessageEnd:
    """Why an answer ended."""
    if isinstance(stop_reason, str):
        return MessageEnd("stop_sequence", stop_reason)
    return MessageEnd(_STOP_REASONS.get(finish_reason or "stop", "end_turn"), None)


class BlockEvents:
    """The events of an answer's blocks, which come one after the other, from its pieces."""

    def __init__(self) -> None:
        self._index = -1  # of the block that is open, or was the last one
        self._open: type[OutputBlock] | None = None

    def of(self, piece: Piece) -> Iterator[Event]:
        """What a piece adds."""
        match piece:
            case Content(text):
                if self._open is not TextBlock:
                    yield from self._begin(TextBlock(""))
                yield BlockDelta(self._index, TextDelta(text))
            case Reasoning(text):
                if self._open is not ThinkingBlock:
                    yield from self._begin(ThinkingBlock(""))
                yield BlockDelta(self._index, ThinkingDelta(text))
            case CallStart(id=call_id, name=name):
                yield from self._begin(ToolUseBlock(call_id, name, {}))
            case CallArguments(text=text):
                yield BlockDelta(self._index, InputJsonDelta(text))

    def end(self) -> Iterator[Event]:
        """Close the block that is open."""
        if self._open is ThinkingBlock:
            yield BlockDelta(self._index, SignatureDelta(""))
        if self._open is not None:
            yield BlockStop(self._index)
        self._open = None

    def _begin(self, block: OutputBlock) -> Iterator[Event]:
        yield from self.end()
        self._index, self._open = self._index + 1, type(block)
        yield BlockStart(self._index, block)


def _input(arguments: str) -> dict[str, object]:
    """A call's arguments; empty where the answer was cut off in the middle of them."""
    try:
        found = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
