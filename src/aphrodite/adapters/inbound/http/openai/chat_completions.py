"""POST /v1/chat/completions."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http import chat
from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.json_response import json_response, large_json_response, write_apart
from aphrodite.adapters.inbound.http.openai.forms import naming_form
from aphrodite.adapters.inbound.http.openai.logprobs import chat_logprobs, prompt_logprobs
from aphrodite.adapters.inbound.http.openai.messages import AssistantMessage as FormerAnswer
from aphrodite.adapters.inbound.http.openai.messages import Function, FunctionName, Message, NamedTool, RefusalPart
from aphrodite.adapters.inbound.http.openai.objects import (
    CallDelta,
    CalledFunction,
    CalledFunctionDelta,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    Delta,
    ResponseCall,
    ResponseMessage,
)
from aphrodite.adapters.inbound.http.openai.parsing import read_request
from aphrodite.adapters.inbound.http.openai.requests import ChatCompletionRequest
from aphrodite.adapters.inbound.http.openai.sampling import chat_sampling
from aphrodite.adapters.inbound.http.openai.usage import written_usage
from aphrodite.adapters.inbound.http.service import Service, service_of
from aphrodite.adapters.inbound.http.sse import DONE, EventStream, encode_event
from aphrodite.domain.generation.message import (
    AssistantMessage,
    CallArguments,
    CallStart,
    Content,
    Piece,
    Reasoning,
)
from aphrodite.domain.prompting.prompts import check_processor_settings
from aphrodite.domain.prompting.tools import Tool, ToolChoice


async def chat_completions(request: Request) -> Response:
    """Answer a conversation at once or in pieces."""
    service = service_of(request)
    async with within_deadline(request):
        asked = await read_request(request, ChatCompletionRequest)
        model = service.check_model(asked.model)
        echoed = _echoed(asked)
        with naming_form(asked):
            answer = await chat.ask(request, _question(asked, service))
        answer_id, created = f"chatcmpl-{request.state.request_id}", int(time.time())
        if asked.stream:
            return EventStream(_events(asked, echoed, answer, answer_id, created, model))
        whole = await _whole(asked, echoed, answer, answer_id, created, model)
        return await large_json_response(whole) if _has_logprobs(asked) else json_response(whole)


def _question(asked: ChatCompletionRequest, service: Service) -> ChatQuestion:
    """What is asked for; takes the messages out of `asked`."""
    if asked.continue_final_message and asked.add_generation_prompt:
        raise InvalidRequestError(
            "continue_final_message and add_generation_prompt exclude each other.", "continue_final_message"
        )
    messages, asked.messages = asked.messages, []
    return ChatQuestion(
        messages=messages,
        sampling=chat_sampling(asked, service.default_sampling),
        streamed=bool(asked.stream),
        priority=asked.priority or 0,
        tools=[_tool(tool.function) for tool in asked.tools or ()],
        tool_choice=_tool_choice(asked),
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        add_generation_prompt=asked.add_generation_prompt is not False,
        continue_final_message=bool(asked.continue_final_message),
        template=asked.chat_template,
        variables=_variables(asked),
        processor_settings=check_processor_settings(asked.mm_processor_kwargs),
    )


async def _whole(
    asked: ChatCompletionRequest, echoed: str, answer: chat.ChatAnswer, answer_id: str, created: int, model: str
) -> ChatCompletion:
    finished = await answer.finish()

    def write() -> ChatCompletion:
        choices = [
            ChatChoice(
                index=choice.index,
                message=_message(choice.message, echoed),
                logprobs=chat_logprobs(choice.logprobs, asked.top_logprobs or 0),
                finish_reason=choice.finish_reason,
                stop_reason=choice.stop_reason,
                token_ids=choice.token_ids if asked.return_token_ids else UNSET,
            )
            for choice in finished
        ]
        usage = written_usage(answer.usage())
        whole = ChatCompletion(id=answer_id, created=created, model=model, choices=choices, usage=usage)
        if asked.prompt_logprobs is not None and answer.prompt_logprobs is not None:
            whole.prompt_logprobs = prompt_logprobs(answer.prompt_logprobs, asked.prompt_logprobs)
        if asked.return_token_ids:
            whole.prompt_token_ids = answer.prompt_token_ids
        return whole

    # Log-probabilities can be many; other requests go on meanwhile.
    return await write_apart(write) if _has_logprobs(asked) else write()


async def _events(
    asked: ChatCompletionRequest, echoed: str, answer: chat.ChatAnswer, answer_id: str, created: int, model: str
) -> AsyncGenerator[bytes, None]:
    """The role, then what was said, then why it ended, for each choice; usage if asked for; [DONE]."""
    chunk = partial(ChatCompletionChunk, id=answer_id, created=created, model=model)
    async with aclosing(answer):
        for index in range(answer.num_choices):
            begun = chunk(choices=[ChatChunkChoice(index, Delta(role="assistant", content=echoed))])
            if asked.return_token_ids and index == 0:
                begun.prompt_token_ids = answer.prompt_token_ids
            yield encode_event(begun)
        async for delta in answer:
            logprobs = chat_logprobs(delta.logprobs, asked.top_logprobs or 0)
            token_ids: list[int] | UnsetType = delta.token_ids if asked.return_token_ids else UNSET
            for piece in delta.pieces or ([Content("")] if logprobs or token_ids else []):
                choice = ChatChunkChoice(delta.index, _delta(piece), logprobs, token_ids=token_ids)
                yield encode_event(chunk(choices=[choice]))
                logprobs, token_ids = None, UNSET  # told with the first piece
            if delta.finish_reason:
                end = ChatChunkChoice(delta.index, Delta(), None, delta.finish_reason, delta.stop_reason)
                yield encode_event(chunk(choices=[end]))
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield encode_event(chunk(choices=[], usage=written_usage(answer.usage())))
        yield DONE


def _has_logprobs(asked: ChatCompletionRequest) -> bool:
    """Whether the answer may be long to write."""
    return bool(asked.logprobs) or asked.prompt_logprobs is not None


def _message(answered: AssistantMessage, echoed: str) -> ResponseMessage:
    content = echoed + (answered.content or "") if echoed else answered.content
    message = ResponseMessage(content)
    if answered.reasoning is not None:
        message.reasoning_content = message.reasoning = answered.reasoning
    if answered.tool_calls:
        calls = answered.tool_calls
        message.tool_calls = [ResponseCall(call.id, CalledFunction(call.name, call.arguments)) for call in calls]
    return message


def _delta(piece: Piece) -> Delta:
    match piece:
        case Content(text):
            return Delta(content=text)
        case Reasoning(text):
            return Delta(reasoning_content=text, reasoning=text)
        case CallStart(number, call_id, name):
            return Delta(tool_calls=[CallDelta(number, CalledFunctionDelta("", name), call_id, "function")])
        case CallArguments(number, text):
            return Delta(tool_calls=[CallDelta(number, CalledFunctionDelta(text))])


def _tool(function: Function) -> Tool:
    parameters = {} if function.parameters is None else {"parameters": function.parameters}
    return Tool(function.name, function.description, strict=bool(function.strict), **parameters)


def _tool_choice(asked: ChatCompletionRequest) -> ToolChoice:
    match asked.tool_choice:
        case None:
            return ToolChoice("auto")
        case NamedTool(FunctionName(name)):
            return ToolChoice("required", name)
        case mode:
            return ToolChoice(mode)


def _variables(asked: ChatCompletionRequest) -> dict[str, Any]:
    """What the template is told besides the messages."""
    variables: dict[str, Any] = {}
    if asked.reasoning_effort is not None:
        variables["reasoning_effort"] = asked.reasoning_effort
    if asked.reasoning_effort == "none":
        variables["enable_thinking"] = False
    return variables | (asked.chat_template_kwargs or {})


def _echoed(asked: ChatCompletionRequest) -> str:
    """With `echo`, the beginning of the answer that the last message already holds."""
    last: Message = asked.messages[-1]
    if not asked.echo or not isinstance(last, FormerAnswer) or last.content is None:
        return ""
    if isinstance(last.content, str):
        return last.content
    texts = [part.refusal if isinstance(part, RefusalPart) else getattr(part, "text", None) for part in last.content]
    return "\n".join(text for text in texts if text is not None)
