"""What is answered, as Ollama's objects: whole, or one a line."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from aphrodite.adapters.inbound.http.chat import ChatAnswer
from aphrodite.adapters.inbound.http.generation import TokenUsage
from aphrodite.adapters.inbound.http.ollama.protocol import (
    OllamaAnswerMessage,
    OllamaCall,
    OllamaCalledFunction,
    OllamaChatAnswer,
    OllamaGenerateAnswer,
)
from aphrodite.adapters.inbound.http.sse import encode_line
from aphrodite.domain.generation.message import (
    AssistantMessage,
    CallArguments,
    CallStart,
    Content,
    Reasoning,
    assemble,
)
from aphrodite.domain.ports import Clock

WriteAnswer = Callable[..., OllamaChatAnswer | OllamaGenerateAnswer]
"""A message, and by their names the fields that chat and generate share, to what is written."""


@dataclass(slots=True)
class Times:
    """When an answer was asked for, and when its first token was there."""

    clock: Clock
    started_s: float
    first_token_s: float = 0.0

    def fields(self, finish_reason: str | None, used: TokenUsage) -> dict[str, Any]:
        """What the last object says."""
        ended_s = self.clock.now_s()
        return {
            "done": True,
            "done_reason": "length" if finish_reason == "length" else "stop",
            "total_duration": _ns(ended_s - self.started_s),
            "load_duration": 0,
            "prompt_eval_count": used.num_prompt_tokens,
            "prompt_eval_duration": _ns(self.first_token_s - self.started_s),
            "eval_count": used.num_output_tokens,
            "eval_duration": _ns(ended_s - self.first_token_s),
        }


def write_chat(message: AssistantMessage, **fields: Any) -> OllamaChatAnswer:
    """As /api/chat has it."""
    calls = [
        OllamaCall(function=OllamaCalledFunction(name=call.name, arguments=_arguments(call.arguments)))
        for call in message.tool_calls
    ]
    written = OllamaAnswerMessage(
        content=message.content or "",
        thinking=message.reasoning or msgspec.UNSET,
        tool_calls=calls or msgspec.UNSET,
    )
    return OllamaChatAnswer(created_at=now(), message=written, **fields)


def write_generate(message: AssistantMessage, **fields: Any) -> OllamaGenerateAnswer:
    """As /api/generate has it."""
    thinking = message.reasoning or msgspec.UNSET
    return OllamaGenerateAnswer(created_at=now(), response=message.content or "", thinking=thinking, **fields)


async def whole(answer: ChatAnswer, write: WriteAnswer, model: str, times: Times) -> msgspec.Struct:
    """All at once."""
    [choice] = await answer.finish()
    return write(choice.message, model=model, **times.fields(choice.finish_reason, answer.usage()))


async def lines(answer: ChatAnswer, write: WriteAnswer, model: str, times: Times) -> AsyncGenerator[bytes, None]:
    """A line for each piece of text, and for each call once it is complete; the last one says what it took."""
    finish_reason = None
    call: list[CallStart | CallArguments] = []
    async with aclosing(answer):
        async for delta in answer:
            for piece in delta.pieces:
                if call and not isinstance(piece, CallArguments):
                    yield encode_line(write(_one_call(call), model=model, done=False))
                    call = []
                if isinstance(piece, Content | Reasoning):
                    yield encode_line(write(assemble([piece]), model=model, done=False))
                else:
                    call.append(piece)
            finish_reason = delta.finish_reason
    if call:
        yield encode_line(write(_one_call(call), model=model, done=False))
    yield encode_line(write(AssistantMessage("", None, ()), model=model, **times.fields(finish_reason, answer.usage())))


def now() -> str:
    """The time as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _one_call(pieces: list[CallStart | CallArguments]) -> AssistantMessage:
    """Numbered as the only one."""
    return assemble(replace(piece, number=0) for piece in pieces)


def _arguments(text: str) -> dict[str, Any]:
    """A call's arguments; empty where the answer was cut off in the middle of them."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _ns(duration_s: float) -> int:
    return max(0, round(duration_s * 1e9))
