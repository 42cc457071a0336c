"""The chat core: a conversation's question, asked of the model, and its answer in pieces or as a whole.

Every API that answers conversations translates its requests to a `ChatQuestion`, and a `ChatAnswer` to its responses:

    async with within_deadline(request):
        # Returns with the first token: whatever goes wrong until then can still be told by a status.
        answer = await ask(request, ChatQuestion(messages=..., sampling=..., streamed=...))
        if streamed:
            return EventStream(events(answer))
        return json_response(whole(await answer.finish(), answer.usage()))

    async def events(answer):
        async with aclosing(answer):  # a client that goes away ends the request
            async for delta in answer:  # what a step added to choice delta.index
                for piece in delta.pieces:  # Content, Reasoning, CallStart or CallArguments, in the model's order
                    ...
                if delta.finish_reason:  # "stop", "length" or "tool_calls"
                    ...
        answer.usage()

`ask` and `finish` raise what `Service.begin` does, and InvalidRequestError or PromptError for a wrong question. Let go
of the messages once you have asked: a picture among them is large, and answers may take long.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from starlette.requests import Request

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.form_names import OWN, renaming_form
from aphrodite.adapters.inbound.http.generation import Generation, TokenUsage, check_num_prompt_logprobs
from aphrodite.adapters.inbound.http.request_note import note_of
from aphrodite.adapters.inbound.http.service import Service, service_of
from aphrodite.domain.generation.assembler import TextDelta
from aphrodite.domain.generation.delta import FinishReason
from aphrodite.domain.generation.message import AssistantMessage, ChatFinishReason, Piece, assemble
from aphrodite.domain.generation.message_format import MessageFormat, find_message_format
from aphrodite.domain.generation.message_reader import MessageReader
from aphrodite.domain.generation.outputs import CompletionOutput, Logprob
from aphrodite.domain.generation.reasoning import ReasoningReader
from aphrodite.domain.generation.tool_calls.forced import ListedCalls, NamedCall, schema_of_arguments, schema_of_calls
from aphrodite.domain.generation.tool_calls.reader import CallReader, FormattedCalls
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.json_schema import check_schema
from aphrodite.domain.prompting.prompts import ProcessedPrompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.prompting.tools import AUTO, Tool, ToolChoice, check_tools

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuestion:
    """A conversation that is to be answered `sampling.n` times."""

    messages: Sequence[object]  # dicts as domain/prompting/chat.py reads them, or msgspec structs of that form
    sampling: SamplingParams
    priority: int = 0  # among the client's own: the lowest is first
    streamed: bool  # read delta by delta: log-probabilities are not kept
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice = AUTO
    parallel_tool_calls: bool = True  # False: one call a message at most
    add_generation_prompt: bool = True
    continue_final_message: bool = False  # the last message is the answer's beginning, which is not told again
    template: str | None = None  # in place of the model's, where the operator allows it
    variables: Mapping[str, Any] = field(default_factory=dict)  # for the template: enable_thinking ...
    processor_settings: Mapping[str, Any] = field(default_factory=dict)  # in place of the image processor's own

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice.mode != "none"

    @property
    def forces_form(self) -> bool:
        return self.tool_choice.mode == "required" or self.sampling.structured_outputs is not None


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """What a step added to one choice."""

    index: int
    pieces: Sequence[Piece]  # none while it is not sure what the text is
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None  # of the step's tokens, whatever piece they belong to
    finish_reason: ChatFinishReason | None
    stop_reason: int | str | None  # the stop token or stop string


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """One whole answer."""

    index: int
    message: AssistantMessage
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: ChatFinishReason | None
    stop_reason: int | str | None


class ChatAnswer:
    """The answers while they are made. Either iterate it once, under `contextlib.aclosing`, or call `finish`."""

    def __init__(self, generation: Generation, new_reader: Callable[[], MessageReader] = MessageReader) -> None:
        """`new_reader` makes what reads one answer's text."""
        self.num_choices = generation.num_choices
        self._generation = generation
        self._new_reader = new_reader
        self._readers = [new_reader() for _ in range(self.num_choices)]

    async def __aiter__(self) -> AsyncIterator[ChatDelta]:
        async for index, delta in self._generation:
            reader, finish_reason = self._readers[index], delta.finish_reason
            pieces = reader.push(delta.text, len(delta.token_ids))
            if finish_reason is not None:
                pieces += reader.finish()
            reason = _reason(finish_reason, reader)
            yield ChatDelta(index, pieces, delta.token_ids, delta.logprobs, reason, delta.stop_reason)

    async def finish(self) -> list[ChatChoice]:
        """Wait for all choices."""
        counts_thoughts = self._readers[0].num_reasoning_tokens is not None
        [output] = await self._generation.finish(self._count_thoughts if counts_thoughts else None)
        return [self._choice(completion) for completion in output.outputs]

    def _choice(self, completion: CompletionOutput) -> ChatChoice:
        reader = self._new_reader()
        message = assemble([*reader.push(completion.text), *reader.finish()])
        finish_reason = _reason(completion.finish_reason, reader)
        return ChatChoice(
            completion.index,
            message,
            completion.token_ids,
            completion.logprobs,
            finish_reason,
            completion.stop_reason,
        )

    @property
    def prompt_token_ids(self) -> list[int]:
        """What the model read, its images' tokens among them."""
        return self._generation.prompt_token_ids(0)

    @property
    def prompt_logprobs(self) -> list[dict[int, Logprob] | None] | None:
        """For each token of the prompt, None for the first; None where they were not asked for."""
        return self._generation.prompt_logprobs(0)

    def usage(self) -> TokenUsage:
        """Tokens by now."""
        counts = [reader.num_reasoning_tokens for reader in self._readers]
        thought = [count for count in counts if count is not None]
        return replace(self._generation.usage(), num_reasoning_tokens=sum(thought) if thought else None)

    def _count_thoughts(self, index: int, delta: TextDelta) -> None:
        self._readers[index].push(delta.text, len(delta.token_ids))

    def stop(self) -> None:
        """End the choices where they are; what was made until now is still to be read."""
        self._generation.stop()

    async def aclose(self) -> None:
        """Abort what is left."""
        await self._generation.aclose()


async def ask(request: Request, question: ChatQuestion) -> ChatAnswer:
    """Have a question answered; returns when the first token is there. The body's memory is given back by then."""
    service = service_of(request)
    prompt = await prepare(request, question)
    check_num_prompt_logprobs([prompt], question.sampling, "prompt_logprobs")
    reading = _Reading(question, _message_format(question, service), prompt.text or "")
    with _naming_tools(question.tool_choice):
        sampling, streamed, choice = _sampling(question), question.streamed, question.tool_choice
        priority = question.priority
    del question
    request.state.body_lease.release()
    generation = service.generation(
        request, [prompt], sampling, streamed=streamed, markup=reading.markup, priority=priority
    )
    with _naming_tools(choice):
        return ChatAnswer(await generation.begin(), reading.reader)


async def prepare(request: Request, question: ChatQuestion) -> ProcessedPrompt:
    """What the model would read. Raises InvalidRequestError, and as `Preparer.chat` does."""
    service = service_of(request)
    _check_template(question, service)
    _check_processor_settings(question, service)
    check_tools(question.tools, question.tool_choice)
    if question.offers_tools:
        _tell_what_is_ignored(request, question, service)
    return await service.preparer.chat(
        question.messages,
        tools=[tool.definition for tool in question.tools] if question.offers_tools else [],
        body_bytes=request.state.body_bytes,
        add_generation_prompt=question.add_generation_prompt and not question.continue_final_message,
        continue_final_message=question.continue_final_message,
        template=question.template,
        # A form that is forced leaves no room for thoughts: templates that know the word shall not begin them.
        variables=({"enable_thinking": False} if question.forces_form else {}) | dict(question.variables),
        processor_settings=question.processor_settings,
    )


def _sampling(question: ChatQuestion) -> SamplingParams:
    """Where a tool must be called, its call's form is forced. Raises InvalidRequestError or SamplingParamsError."""
    if question.tool_choice.mode != "required":
        return question.sampling
    if question.sampling.structured_outputs is not None:
        raise InvalidRequestError("tool_choice asks for a call; leave out the other form of the answer.", "tool_choice")
    if question.tool_choice.name is None:
        schema = schema_of_calls(question.tools, only_one=not question.parallel_tool_calls)
    else:
        tool = next(tool for tool in question.tools if tool.name == question.tool_choice.name)
        schema = schema_of_arguments(tool)
    form = StructuredOutputs(json=schema)  # bounds the tools' length, too
    for number, tool in enumerate(question.tools):
        check_schema(dict(tool.parameters), f"{OWN}.tools[{number}].function.parameters")
    return replace(question.sampling, structured_outputs=form)


def _naming_tools(choice: ToolChoice) -> AbstractContextManager[None]:
    """Have errors about the form of a forced call name the tools that it is made from."""

    def rename(own: str) -> str | None:
        if choice.mode != "required":
            return None
        _, is_of_one, place = own.partition(".tools")
        return "tools" + place if is_of_one else "tools"

    return renaming_form(rename)


class _Reading:
    """How the texts of one question's answers are read."""

    def __init__(self, question: ChatQuestion, message_format: MessageFormat, prompt: str) -> None:
        is_free = not question.forces_form
        self._calls = message_format.calls if question.offers_tools and is_free else None
        self._tags = message_format.reasoning if is_free else None
        self._choice = question.tool_choice
        self._id_chars = None if message_format.calls is None else message_format.calls.id_chars
        self._tools = {tool.name: tool for tool in question.tools}
        self._only_one = not question.parallel_tool_calls
        self._is_open = self._tags is not None and self._tags.are_open(
            prompt, is_continued=question.continue_final_message
        )

    @property
    def markup(self) -> list[str]:
        """What may be a special token, and yet belongs to the text."""
        tags = () if self._tags is None else (self._tags.start.strip(), self._tags.end)
        return [*tags, *(() if self._calls is None else self._calls.markup)]

    def reader(self) -> MessageReader:
        """For one answer."""
        reasoning = None if self._tags is None else ReasoningReader(self._tags, is_open=self._is_open)
        calls: CallReader | None = None
        if self._choice.mode == "required":
            name = self._choice.name
            calls = ListedCalls(self._new_id) if name is None else NamedCall(name, self._new_id)
        elif self._calls is not None:
            calls = FormattedCalls(self._calls, self._tools, self._new_id, only_one=self._only_one)
        return MessageReader(reasoning, calls)

    def _new_id(self) -> str:
        return f"call_{uuid4().hex[:24]}" if self._id_chars is None else uuid4().hex[: self._id_chars]


def _reason(finish_reason: FinishReason | None, reader: MessageReader) -> ChatFinishReason | None:
    return "tool_calls" if finish_reason == "stop" and reader.has_calls else finish_reason


def _template(question: ChatQuestion, service: Service) -> ChatTemplate:
    return service.chat_template if question.template is None else ChatTemplate(question.template)


def _message_format(question: ChatQuestion, service: Service) -> MessageFormat:
    source = service.chat_template.source if question.template is None else question.template
    return find_message_format(source, service.tool_call_parser, service.reasoning_parser)


def _tell_what_is_ignored(request: Request, question: ChatQuestion, service: Service) -> None:
    """Warn where the model does not hear of its tools, or where its calls would not be found."""
    if not _template(question, service).takes_tools:
        ignored, why = "tools", "the chat template does not show them to the model"
    elif question.tool_choice.mode == "auto" and question.sampling.structured_outputs is not None:
        ignored, why = "tools", "an answer of a given form holds no calls"
    elif question.tool_choice.mode == "auto" and _message_format(question, service).calls is None:
        ignored, why = "tools", "it is not known how the model writes calls; name it with --tool-call-parser"
    elif question.tool_choice.mode == "auto" and any(tool.strict for tool in question.tools):
        ignored, why = "strict", "arguments are held to their schema only where a call is forced"
    else:
        return
    _logger.warning("Ignored %s of a request: %s", ignored, why)
    note = note_of(request.scope)
    note.ignored_fields = [*note.ignored_fields, ignored]


def _check_template(question: ChatQuestion, service: Service) -> None:
    """Templates are the operator's; plain values that they look at may come from anyone."""
    if service.trust_request_chat_template:
        return
    if question.template is not None:
        name, what = "chat_template", "chat_template is"
    elif not all(value is None or isinstance(value, str | int | float) for value in question.variables.values()):
        name, what = "chat_template_kwargs", "chat_template_kwargs other than strings, numbers, true and false are"
    else:
        return
    raise InvalidRequestError(
        f"{what} not taken from requests; the operator can allow it with --trust-request-chat-template.",
        name,
        "unsupported_parameter",
    )


def _check_processor_settings(question: ChatQuestion, service: Service) -> None:
    """They decide how much work a picture is, so the operator decides whether there may be any."""
    if question.processor_settings and not service.takes_processor_settings:
        raise InvalidRequestError(
            "mm_processor_kwargs is not taken from requests; the operator can allow it with --max-resized-pixels.",
            "mm_processor_kwargs",
            "unsupported_parameter",
        )
