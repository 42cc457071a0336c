"""POST /v1/responses."""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http import chat
from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import describe, name_prompt
from aphrodite.adapters.inbound.http.form_names import naming_form
from aphrodite.adapters.inbound.http.generation import TokenUsage
from aphrodite.adapters.inbound.http.json_response import json_response, write_apart
from aphrodite.adapters.inbound.http.openai.logprobs import chat_logprobs
from aphrodite.adapters.inbound.http.openai.objects import ErrorBody
from aphrodite.adapters.inbound.http.request_body import read_with
from aphrodite.adapters.inbound.http.responses.memory import ResponseMemory, StoredResponse
from aphrodite.adapters.inbound.http.responses.output import ItemEvents, written_items
from aphrodite.adapters.inbound.http.responses.protocol import (
    IncompleteDetails,
    InputTokensDetails,
    ItemStatus,
    ModelResponse,
    OutputTokensDetails,
    ReasoningConfig,
    ResponseFailure,
    ResponsesRequest,
    ResponseUsage,
    TextConfig,
    TextFormat,
)
from aphrodite.adapters.inbound.http.responses.question import FORM_FIELD, read_question, to_question
from aphrodite.adapters.inbound.http.responses.stored import memory_of
from aphrodite.adapters.inbound.http.responses.thread import said_before
from aphrodite.adapters.inbound.http.running import Running, RunningRequests
from aphrodite.adapters.inbound.http.service import client_of, service_of
from aphrodite.adapters.inbound.http.sse import EventStream, encode_named_event
from aphrodite.domain.generation.message import ChatFinishReason
from aphrodite.domain.prompting.sampling_params import SamplingParams


async def create_response(request: Request) -> Response:
    """Answer an input, behind what was said before it, at once or in pieces."""
    service = service_of(request)
    name_prompt(request, "input")
    async with within_deadline(request):
        question = await read_with(request, partial(read_question, request_id=request.state.request_id))
        asked = question.asked
        service.check_model(asked.model)
        async with said_before(request, asked.previous_response_id) as before:
            questions = [to_question(question, before, service.default_sampling)]
            response = _begun(asked, question.tools, questions[0].sampling)
            kept = _Kept(memory_of(request), client_of(request), response, question.items)
            streamed, num_top = bool(asked.stream), asked.top_logprobs or 0
            del question, asked, before
            try:
                with naming_form(FORM_FIELD):
                    answer = await chat.ask(request, questions.pop())  # nobody holds its pictures meanwhile
            except BaseException:
                kept.forget()
                raise
        running = _add_running(request, response.id)
        running.begin(answer.stop)
        if streamed:
            sequence = count()
            events = _events(answer, num_top, response, running, kept, sequence)
            return EventStream(events, partial(_encode_error, sequence))
        if response.background:
            _go_on(request, _in_background(request, answer, response, running, kept))
            return json_response(response)
        try:
            await _finish(answer, num_top, response, running, kept)
        except BaseException:
            kept.forget()
            raise
        return Response(await write_apart(partial(msgspec.json.encode, response)), media_type="application/json")


async def _finish(
    answer: chat.ChatAnswer, num_top: int, response: ModelResponse, running: Running, kept: "_Kept"
) -> None:
    """Wait for the whole answer."""
    [choice] = await answer.finish()
    logprobs = chat_logprobs(choice.logprobs, num_top)
    _end(response, choice.finish_reason, answer.usage(), running)
    response.output = written_items(choice.message, logprobs.content if logprobs else [], _item_status(response))
    kept.update()


async def _in_background(
    request: Request, answer: chat.ChatAnswer, response: ModelResponse, running: Running, kept: "_Kept"
) -> None:
    """Finish an answer that nobody waits for; whatever goes wrong is told by the response."""
    try:
        async with within_deadline(request):
            await _finish(answer, 0, response, running, kept)
    except Exception as error:  # noqa: BLE001 - there is nobody else who could hear of it
        _, body, _ = describe(error)
        response.status, response.error = "failed", ResponseFailure("server_error", body.error.message)
        kept.update()


def _go_on(request: Request, work: Coroutine[None, None, None]) -> None:
    """Have something done behind the request's end."""
    tasks: set[asyncio.Task[None]] = request.app.state.background
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _events(
    answer: chat.ChatAnswer,
    num_top: int,
    response: ModelResponse,
    running: Running,
    kept: "_Kept",
    sequence: "count[int]",
) -> AsyncGenerator[bytes, None]:
    """The response without output, its items piece by piece, then the whole response."""

    def encode(event_type: str, more: dict[str, Any]) -> bytes:
        return encode_named_event(event_type, {"type": event_type, "sequence_number": next(sequence), **more})

    try:
        yield encode("response.created", {"response": response})
        yield encode("response.in_progress", {"response": response})
        items = ItemEvents()
        finish_reason = None
        async with aclosing(answer):
            async for delta in answer:
                logprobs = chat_logprobs(delta.logprobs, num_top)
                tokens = logprobs.content if logprobs else []
                for piece in delta.pieces:
                    for event in items.of(piece, tokens):
                        yield encode(*event)
                    tokens = []  # told with the first piece
                finish_reason = delta.finish_reason
        _end(response, finish_reason, answer.usage(), running)
        ended = _item_status(response)
        for event in items.end(ended):
            yield encode(*event)
        response.output = items.items
        yield encode(f"response.{ended}", {"response": response})
    finally:
        if response.status == "in_progress":
            response.status = "cancelled" if running.is_stopped else "incomplete"
        kept.update()


class _Kept:
    """A response in the memory, unless it is not to be stored. What it answers is there alone."""

    def __init__(self, memory: ResponseMemory, client_name: str, response: ModelResponse, items: bytes) -> None:
        self._memory = memory
        self._client_name = client_name
        self._response = response
        if response.store:
            written = msgspec.json.encode(response)
            memory.add(client_name, StoredResponse(response.id, response.previous_response_id, items, written))

    def update(self) -> None:
        """Keep it as it is now."""
        if self._response.store:
            self._memory.update(self._client_name, self._response.id, msgspec.json.encode(self._response))

    def forget(self) -> None:
        """It has no answer."""
        self._memory.remove(self._client_name, self._response.id)


def _begun(asked: ResponsesRequest, tools: msgspec.Raw, sampling: SamplingParams) -> ModelResponse:
    return ModelResponse(
        id=f"resp_{uuid4().hex}",  # never a client's own word: threads could become circles
        created_at=int(time.time()),
        status="in_progress",
        model=asked.model,
        output=[],
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        metadata=asked.metadata or {},
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        previous_response_id=asked.previous_response_id,
        reasoning=asked.reasoning or ReasoningConfig(),
        store=asked.store is not False,
        temperature=sampling.temperature,
        text=asked.text if asked.text is not None and asked.text.format else TextConfig(TextFormat(type="text")),
        tool_choice=asked.tool_choice or "auto",
        tools=tools,
        top_p=sampling.top_p,
        top_logprobs=asked.top_logprobs or 0,
        truncation=asked.truncation or "disabled",
        user=asked.user,
        background=bool(asked.background),
    )


def _end(response: ModelResponse, finish_reason: ChatFinishReason | None, used: TokenUsage, running: Running) -> None:
    """Why it ended, and what it took."""
    if running.is_stopped:
        response.status = "cancelled"
    elif finish_reason == "length":
        response.status, response.incomplete_details = "incomplete", IncompleteDetails("max_output_tokens")
    else:
        response.status = "completed"
    response.usage = ResponseUsage(
        used.num_prompt_tokens,
        InputTokensDetails(used.num_cached_tokens),
        used.num_output_tokens,
        OutputTokensDetails(used.num_reasoning_tokens or 0),
        used.num_prompt_tokens + used.num_output_tokens,
    )


def _item_status(response: ModelResponse) -> ItemStatus:
    """Of its last item."""
    return "completed" if response.status == "completed" else "incomplete"


def _add_running(request: Request, response_id: str) -> Running:
    running: RunningRequests = request.app.state.running
    return running.add(client_of(request), response_id)


def _encode_error(sequence: "count[int]", body: msgspec.Struct) -> bytes:
    assert isinstance(body, ErrorBody)
    error = body.error
    event = {"type": "error", "sequence_number": next(sequence), "code": error.code, "message": error.message}
    return encode_named_event("error", event | {"param": error.param})
