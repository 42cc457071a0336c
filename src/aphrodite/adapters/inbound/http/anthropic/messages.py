"""POST /v1/messages and /v1/messages/count_tokens."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http import chat
from aphrodite.adapters.inbound.http.anthropic.answer import (
    BlockEvents,
    written_blocks,
    written_end,
    written_usage,
)
from aphrodite.adapters.inbound.http.anthropic.protocol import (
    AnthropicMessage,
    CountTokensRequest,
    Event,
    MessageDelta,
    MessagesRequest,
    MessageStart,
    MessageStop,
    Ping,
    TokenCount,
)
from aphrodite.adapters.inbound.http.anthropic.question import FORM_FIELD, to_question
from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.form_names import naming_form
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.request_body import parse_body, read_with, unknown_fields
from aphrodite.adapters.inbound.http.service import service_of
from aphrodite.adapters.inbound.http.sse import EventStream, encode_named_event
from aphrodite.domain.generation.message import ChatFinishReason
from aphrodite.domain.prompting.sampling_params import SamplingParams

T = TypeVar("T", bound=CountTokensRequest)

_IGNORED = {"metadata", "service_tier", "inference_geo", "cache_control", "betas"}  # no answer depends on them
_UNSUPPORTED = ("mcp_servers", "container", "context_management")


async def messages(request: Request) -> Response:
    """Answer a conversation at once or in pieces."""
    service = service_of(request)
    async with within_deadline(request):
        read = partial(_read, kind=MessagesRequest, default=service.default_sampling)
        asked, questions = await read_with(request, read)
        model, streamed = service.check_model(asked.model), bool(asked.stream)
        del asked
        with naming_form(FORM_FIELD):
            answer = await chat.ask(request, questions.pop())  # nobody holds its pictures meanwhile
        message = AnthropicMessage(
            id=f"msg_{request.state.request_id}",
            model=model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=written_usage(answer.usage()),
        )
        if streamed:
            return EventStream(_events(answer, message), _encode)
        [choice] = await answer.finish()
        end = written_end(choice.finish_reason, choice.stop_reason)
        message.content = written_blocks(choice.message)
        message.stop_reason, message.stop_sequence = end.stop_reason, end.stop_sequence
        message.usage = written_usage(answer.usage())
        return json_response(message)


async def count_tokens(request: Request) -> Response:
    """How many tokens the model would read."""
    service = service_of(request)
    async with within_deadline(request):
        read = partial(_read, kind=CountTokensRequest, default=service.default_sampling)
        asked, questions = await read_with(request, read)
        service.check_model(asked.model)
        prompt = await chat.prepare(request, questions.pop())
        return json_response(TokenCount(len(prompt.token_ids)))


async def _events(answer: chat.ChatAnswer, message: AnthropicMessage) -> AsyncGenerator[bytes, None]:
    """The message without content, its blocks piece by piece, then why it ended."""
    message.usage.output_tokens = 0
    yield _encode(MessageStart(message))
    yield _encode(Ping())
    blocks = BlockEvents()
    ended: tuple[ChatFinishReason | None, int | str | None] = (None, None)
    async with aclosing(answer):
        async for delta in answer:
            for piece in delta.pieces:
                for event in blocks.of(piece):
                    yield _encode(event)
            ended = delta.finish_reason, delta.stop_reason
    for event in blocks.end():
        yield _encode(event)
    yield _encode(MessageDelta(written_end(*ended), written_usage(answer.usage())))
    yield _encode(MessageStop())


def _encode(event: Event | msgspec.Struct) -> bytes:
    return encode_named_event(str(event.__struct_config__.tag), event)


def _read(body: bytes, kind: type[T], default: SamplingParams) -> tuple[tuple[T, list[ChatQuestion]], list[str]]:
    """The request and the question in it; in a thread where the body is large."""
    asked, ignored = parse_body(body, kind, _check_fields)
    return (asked, [to_question(asked, default)]), ignored


def _check_fields(fields: dict[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    for name in _UNSUPPORTED:
        if fields.get(name):
            raise InvalidRequestError(f"{name} is not supported; leave it out.", name, "unsupported_parameter")
    unknown = [name for name in unknown_fields(fields, kind) if name not in _IGNORED]
    if kind is CountTokensRequest:
        return [name for name in unknown if name not in MessagesRequest.__struct_encode_fields__]
    return unknown
