"""POST /api/chat and /api/generate."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http import chat
from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.form_names import naming_form
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.ollama.answer import Times, WriteAnswer, lines, whole, write_chat, write_generate
from aphrodite.adapters.inbound.http.ollama.information import served_name
from aphrodite.adapters.inbound.http.ollama.protocol import OllamaChatRequest, OllamaGenerateRequest, OllamaOptions
from aphrodite.adapters.inbound.http.ollama.question import (
    FORM_FIELD,
    RawQuestion,
    to_chat_question,
    to_generate_question,
)
from aphrodite.adapters.inbound.http.request_body import parse_body, read_with, unknown_fields
from aphrodite.adapters.inbound.http.service import service_of
from aphrodite.adapters.inbound.http.sse import LineStream
from aphrodite.domain.generation.message import AssistantMessage
from aphrodite.domain.prompting.sampling_params import SamplingParams

T = TypeVar("T", OllamaChatRequest, OllamaGenerateRequest)
Question = ChatQuestion | RawQuestion | None
"""None: nothing but that the model be loaded, which it is."""

_UNSUPPORTED = ("suffix", "template")
_IGNORED = {"context", "truncate", "shift"}


async def ollama_chat(request: Request) -> Response:
    """Answer a conversation, line by line unless `stream` is false."""
    return await _answer(request, OllamaChatRequest, to_chat_question, write_chat)


async def ollama_generate(request: Request) -> Response:
    """Answer a prompt, or continue it if it is raw, line by line unless `stream` is false."""
    return await _answer(request, OllamaGenerateRequest, to_generate_question, write_generate)


async def _answer(
    request: Request, kind: type[T], translate: Callable[[T, SamplingParams], Question], write: WriteAnswer
) -> Response:
    service = service_of(request)
    times = Times(service.clock, service.clock.now_s())
    async with within_deadline(request):
        read = partial(_read, kind=kind, translate=translate, default=service.default_sampling)
        asked, questions = await read_with(request, read)
        model, streamed = served_name(service, asked.model), asked.stream is not False
        del asked
        match questions[0]:
            case None:
                return json_response(write(AssistantMessage("", None, ()), model=model, done=True, done_reason="load"))
            case RawQuestion():
                ask = _continue(request, questions)
            case _:
                ask = chat.ask(request, questions.pop())  # nobody holds its pictures meanwhile
        with naming_form(FORM_FIELD):
            answer = await ask
        times.first_token_s = service.clock.now_s()
        if streamed:
            return LineStream(lines(answer, write, model, times))
        return json_response(await whole(answer, write, model, times))


async def _continue(request: Request, questions: list[Any]) -> chat.ChatAnswer:
    """What stands behind the text of the only question, which is taken away."""
    question: RawQuestion = questions.pop()
    service, sampling, streamed = service_of(request), question.sampling, question.streamed
    if question.image_urls:
        prompt = await service.preparer.illustrated(question.text, question.image_urls)
    else:
        [prompt] = await service.preparer.prompts([question.text])
    del question
    request.state.body_lease.release()
    return chat.ChatAnswer(await service.generation(request, [prompt], sampling, streamed=streamed).begin())


def _read(
    body: bytes, kind: type[T], translate: Callable[[T, SamplingParams], Question], default: SamplingParams
) -> tuple[tuple[T, list[Any]], list[str]]:
    """The request and the question in it; in a thread where the body is large."""
    asked, ignored = parse_body(body, kind, _check_fields)
    return (asked, [translate(asked, default)]), ignored


def _check_fields(fields: dict[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    for name in _UNSUPPORTED:
        if fields.get(name):
            raise InvalidRequestError(f"{name} is not supported; leave it out.", name, "unsupported_parameter")
    options = fields.get("options")
    known = OllamaOptions.__struct_encode_fields__
    unknown = sorted(options.keys() - set(known)) if isinstance(options, dict) else []
    top = [name for name in unknown_fields(fields, kind) if name not in _IGNORED and name not in _UNSUPPORTED]
    return top + [f"options.{name}" for name in unknown]
