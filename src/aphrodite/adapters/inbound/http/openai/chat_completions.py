"""POST /v1/chat/completions."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.generation import Generation
from aphrodite.adapters.inbound.http.json_response import json_response, large_json_response
from aphrodite.adapters.inbound.http.openai.logprobs import chat_logprobs
from aphrodite.adapters.inbound.http.openai.parsing import read_request
from aphrodite.adapters.inbound.http.openai.protocol import (
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Delta,
    Message,
    ResponseMessage,
    TextPart,
)
from aphrodite.adapters.inbound.http.openai.sampling import chat_sampling
from aphrodite.adapters.inbound.http.service import Service, service_of
from aphrodite.adapters.inbound.http.sse import DONE, EventStream, encode_event


async def chat_completions(request: Request) -> Response:
    """Answer a conversation, with at most one image in it, at once or in pieces."""
    service = service_of(request)
    async with within_deadline(request):
        asked = await read_request(request, ChatCompletionRequest)
        model = service.check_model(asked.model)
        sampling = chat_sampling(asked, service.default_sampling)
        _check_templates(asked, service)
        prompt = await service.preparer.chat(
            asked.messages,
            body_bytes=request.state.body_bytes,
            add_generation_prompt=asked.add_generation_prompt is not False,
            template=asked.chat_template,
            variables=asked.chat_template_kwargs,
        )
        echoed = _echoed(asked)
        asked.messages = []  # a picture among them is large, and answers may take long
        request.state.body_lease.release()
        generation = await service.begin(request, [prompt], sampling, streamed=bool(asked.stream))
        answer_id, created = f"chatcmpl-{request.state.request_id}", int(time.time())
        if asked.stream:
            return EventStream(_events(asked, echoed, generation, answer_id, created, model))
        answer = await _whole(asked, echoed, generation, answer_id, created, model)
        return await large_json_response(answer) if asked.logprobs else json_response(answer)


def _check_templates(asked: ChatCompletionRequest, service: Service) -> None:
    for name in ("chat_template", "chat_template_kwargs"):
        if getattr(asked, name) is not None and not service.trust_request_chat_template:
            raise InvalidRequestError(
                f"{name} is not taken from requests; the operator can allow it with --trust-request-chat-template.",
                name,
                "unsupported_parameter",
            )


async def _whole(
    asked: ChatCompletionRequest, echoed: str, generation: Generation, answer_id: str, created: int, model: str
) -> ChatCompletion:
    [output] = await generation.finish()

    def write() -> list[ChatChoice]:
        return [
            ChatChoice(
                index=completion.index,
                message=ResponseMessage(echoed + completion.text),
                logprobs=chat_logprobs(completion.logprobs, asked.top_logprobs or 0),
                finish_reason=completion.finish_reason,
                stop_reason=completion.stop_reason,
            )
            for completion in output.outputs
        ]

    # Log-probabilities can be many; other requests go on meanwhile.
    choices = await asyncio.to_thread(write) if asked.logprobs else write()
    return ChatCompletion(id=answer_id, created=created, model=model, choices=choices, usage=generation.usage())


async def _events(
    asked: ChatCompletionRequest, echoed: str, generation: Generation, answer_id: str, created: int, model: str
) -> AsyncGenerator[bytes, None]:
    """The role, then what was said, then why it ended, for each choice; usage if asked for; [DONE]."""
    chunk = partial(ChatCompletionChunk, id=answer_id, created=created, model=model)
    async with aclosing(generation):
        for index in range(generation.num_choices):
            role = Delta(role="assistant", content=echoed)
            yield encode_event(chunk(choices=[ChatChunkChoice(index, role)]))
        async for index, delta in generation:
            if delta.text or delta.logprobs:
                logprobs = chat_logprobs(delta.logprobs, asked.top_logprobs or 0)
                yield encode_event(chunk(choices=[ChatChunkChoice(index, Delta(content=delta.text), logprobs)]))
            if delta.finish_reason:
                end = ChatChunkChoice(index, Delta(), None, delta.finish_reason, delta.stop_reason)
                yield encode_event(chunk(choices=[end]))
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield encode_event(chunk(choices=[], usage=generation.usage()))
        yield DONE


def _echoed(asked: ChatCompletionRequest) -> str:
    """With `echo`, the beginning of the answer that the last message already holds."""
    last: Message = asked.messages[-1]
    if not asked.echo or not isinstance(last, AssistantMessage) or last.content is None:
        return ""
    if isinstance(last.content, str):
        return last.content
    return "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in last.content)
