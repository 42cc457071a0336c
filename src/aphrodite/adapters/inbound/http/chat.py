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

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.generation import Generation, TokenUsage
from aphrodite.adapters.inbound.http.service import Service, service_of
from aphrodite.domain.generation.message import AssistantMessage, ChatFinishReason, Content, Piece, assemble
from aphrodite.domain.generation.outputs import Logprob
from aphrodite.domain.prompting.prompts import ProcessedPrompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.tools import AUTO, Tool, ToolChoice, check_tools


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuestion:
    """A conversation that is to be answered `sampling.n` times."""

    messages: Sequence[object]  # dicts as domain/prompting/chat.py reads them, or msgspec structs of that form
    sampling: SamplingParams
    streamed: bool  # read delta by delta: log-probabilities are not kept
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice = AUTO
    parallel_tool_calls: bool = True  # False: one call a message at most
    add_generation_prompt: bool = True
    continue_final_message: bool = False  # the last message is the answer's beginning, which is not told again
    template: str | None = None  # in place of the model's, where the operator allows it
    variables: Mapping[str, Any] = field(default_factory=dict)  # for the template: enable_thinking ...


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """What a step added to one choice."""

    index: int
    pieces: Sequence[Piece]
    logprobs: list[dict[int, Logprob]] | None  # of the step's tokens, whatever piece they belong to
    finish_reason: ChatFinishReason | None
    stop_reason: int | str | None  # the stop token or stop string


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """One whole answer."""

    index: int
    message: AssistantMessage
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: ChatFinishReason | None
    stop_reason: int | str | None


class ChatAnswer:
    """The answers while they are made. Either iterate it once, under `contextlib.aclosing`, or call `finish`."""

    def __init__(self, generation: Generation) -> None:
        self.num_choices = generation.num_choices
        self._generation = generation

    async def __aiter__(self) -> AsyncIterator[ChatDelta]:
        async for index, delta in self._generation:
            pieces = [Content(delta.text)] if delta.text else []
            if pieces or delta.logprobs or delta.finish_reason:
                yield ChatDelta(index, pieces, delta.logprobs, delta.finish_reason, delta.stop_reason)

    async def finish(self) -> list[ChatChoice]:
        """Wait for all choices."""
        [output] = await self._generation.finish()
        return [
            ChatChoice(
                completion.index,
                assemble([Content(completion.text)]),
                completion.logprobs,
                completion.finish_reason,
                completion.stop_reason,
            )
            for completion in output.outputs
        ]

    def usage(self) -> TokenUsage:
        """Tokens by now."""
        return self._generation.usage()

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
    sampling, streamed = question.sampling, question.streamed
    del question
    request.state.body_lease.release()
    return ChatAnswer(await service.begin(request, [prompt], sampling, streamed=streamed))


async def prepare(request: Request, question: ChatQuestion) -> ProcessedPrompt:
    """What the model would read. Raises InvalidRequestError, and as `Preparer.chat` does."""
    service = service_of(request)
    _check_template(question, service)
    check_tools(question.tools, question.tool_choice)
    return await service.preparer.chat(
        question.messages,
        tools=[tool.definition for tool in question.tools] if question.tool_choice.mode != "none" else [],
        body_bytes=request.state.body_bytes,
        add_generation_prompt=question.add_generation_prompt and not question.continue_final_message,
        continue_final_message=question.continue_final_message,
        template=question.template,
        variables=question.variables,
    )


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
