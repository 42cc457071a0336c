"""What the chat core answers, as the output items of a response and as the events that build them."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from aphrodite.adapters.inbound.http.openai.objects import TokenLogprob
from aphrodite.adapters.inbound.http.responses.protocol import (
    FunctionCall,
    ItemStatus,
    OutputItem,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from aphrodite.domain.generation.message import (
    AssistantMessage,
    CallArguments,
    CallStart,
    Content,
    Piece,
    Reasoning,
)

Event = tuple[str, dict[str, Any]]
"""Its type, and what else it has."""


def written_items(message: AssistantMessage, logprobs: list[TokenLogprob], status: ItemStatus) -> list[OutputItem]:
    """A whole answer; `status` is the last item's."""
    items: list[OutputItem] = []
    if message.reasoning:
        items.append(_reasoning(message.reasoning))
    if message.content is not None:
        items.append(_message(message.content, logprobs))
    items += [_call(call.id, call.name, call.arguments) for call in message.tool_calls]
    if items:
        items[-1].status = status
    return items


class ItemEvents:
    """The events of an answer's items, which come one after the other, from its pieces."""

    def __init__(self) -> None:
        self.items: list[OutputItem] = []  # the last of them is open, or all are done
        self._is_open = False

    def of(self, piece: Piece, logprobs: Sequence[TokenLogprob]) -> Iterator[Event]:
        """What a piece adds."""
        match piece:
            case Content(text):
                if not self._is_in(OutputMessage):
                    yield from self._begin(_message("", []))
                self._text.text += text
                self._text.logprobs += logprobs
                yield "response.output_text.delta", self._place(content_index=0, delta=text, logprobs=list(logprobs))
            case Reasoning(text):
                if not self._is_in(ReasoningItem):
                    yield from self._begin(_reasoning(""))
                self._thought.text += text
                yield "response.reasoning_text.delta", self._place(content_index=0, delta=text)
            case CallStart(id=call_id, name=name):
                yield from self._begin(_call(call_id, name, ""))
            case CallArguments(text=text):
                self._called.arguments += text
                yield "response.function_call_arguments.delta", self._place(delta=text)

    def end(self, status: ItemStatus) -> Iterator[Event]:
        """Close the item that is open."""
        if not self._is_open:
            return
        self._is_open, item = False, self.items[-1]
        item.status = status
        match item:
            case OutputMessage(content=[part]):
                text = self._place(content_index=0, text=part.text, logprobs=part.logprobs)
                yield "response.output_text.done", text
                yield "response.content_part.done", self._place(content_index=0, part=part)
            case ReasoningItem(content=[thought]):
                yield "response.reasoning_text.done", self._place(content_index=0, text=thought.text)
                yield "response.content_part.done", self._place(content_index=0, part=thought)
            case FunctionCall(name=name, arguments=arguments):
                yield "response.function_call_arguments.done", self._place(name=name, arguments=arguments)
        yield "response.output_item.done", {"output_index": len(self.items) - 1, "item": item}

    def _begin(self, item: OutputItem) -> Iterator[Event]:
        yield from self.end("completed")
        self.items.append(item)
        self._is_open = True
        content: list[Any] = [] if isinstance(item, FunctionCall) else item.content
        item.status = "in_progress"
        if not isinstance(item, FunctionCall):
            item.content = []
        yield "response.output_item.added", {"output_index": len(self.items) - 1, "item": item}
        if not isinstance(item, FunctionCall):
            item.content = content
            yield "response.content_part.added", self._place(content_index=0, part=content[0])

    def _is_in(self, kind: type[OutputItem]) -> bool:
        return self._is_open and isinstance(self.items[-1], kind)

    def _place(self, **more: Any) -> dict[str, Any]:
        return {"item_id": self.items[-1].id, "output_index": len(self.items) - 1, **more}

    @property
    def _text(self) -> OutputText:
        item = self.items[-1]
        assert isinstance(item, OutputMessage)
        return item.content[0]

    @property
    def _thought(self) -> ReasoningText:
        item = self.items[-1]
        assert isinstance(item, ReasoningItem)
        return item.content[0]

    @property
    def _called(self) -> FunctionCall:
        item = self.items[-1]
        assert isinstance(item, FunctionCall)
        return item


def _message(text: str, logprobs: list[TokenLogprob]) -> OutputMessage:
    return OutputMessage(id=f"msg_{uuid4().hex}", status="completed", content=[OutputText(text, logprobs=logprobs)])


def _reasoning(text: str) -> ReasoningItem:
    return ReasoningItem(id=f"rs_{uuid4().hex}", status="completed", content=[ReasoningText(text)])


def _call(call_id: str, name: str, arguments: str) -> FunctionCall:
    return FunctionCall(id=f"fc_{uuid4().hex}", call_id=call_id, name=name, arguments=arguments, status="completed")
