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
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request

from aphrodite.adapters.inbound.http.chat_forms import form_or_calls, naming_tools, sampling_of
from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.adapters.inbound.http.chat_reading import Reading
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.generation import Generation, TokenUsage, check_num_prompt_logprobs
from aphrodite.adapters.inbound.http.request_note import note_of
from aphrodite.adapters.inbound.http.service import Service, service_of
from aphrodite.domain.generation.assembler import TextDelta
from aphrodite.domain.generation.delta import FinishReason
from aphrodite.domain.generation.message import AssistantMessage, ChatFinishReason, Piece, assemble
from aphrodite.domain.generation.message_format import MessageFormat, find_message_format
from aphrodite.domain.generation.message_reader import MessageReader
from aphrodite.domain.generation.outputs import CompletionOutput, Logprob
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.prompts import ProcessedPrompt
from aphrodite.domain.prompting.tools import check_tools

_logger = logging.getLogger(__name__)


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
    message_format = _message_format(question, service)
    prompt = await prepare(request, question)
    check_num_prompt_logprobs([prompt], question.sampling, "prompt_logprobs")
    reading = Reading(question, message_format, prompt.text or "")
    with naming_tools(question.tool_choice):
        sampling, streamed, choice = sampling_of(question, message_format), question.streamed, question.tool_choice
        priority = question.priority
    del question
    request.state.body_lease.release()
    generation = service.generation(
        request, [prompt], sampling, streamed=streamed, markup=reading.markup, priority=priority
    )
    with naming_tools(choice):
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
    elif question.tool_choice.mode == "auto" and _message_format(question, service).calls is None:
        ignored, why = "tools", "it is not known how the model writes calls; name it with --tool-call-parser"
    elif question.tool_choice.mode == "auto" and question.sampling.structured_outputs is not None:
        if form_or_calls(question, _message_format(question, service)) is not None:
            return
        ignored, why = "tools", "an answer of such a form leaves no room for calls as the model writes them"
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
