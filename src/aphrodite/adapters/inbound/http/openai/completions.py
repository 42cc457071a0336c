"""POST /v1/completions."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.generation import Generation
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.openai.logprobs import Candidates, CompletionLogprobsWriter
from aphrodite.adapters.inbound.http.openai.parsing import parse_body
from aphrodite.adapters.inbound.http.openai.protocol import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
)
from aphrodite.adapters.inbound.http.openai.sampling import completion_sampling
from aphrodite.adapters.inbound.http.service import Service, service_of
from aphrodite.adapters.inbound.http.sse import DONE, EventStream, encode_event
from aphrodite.domain.prompting.prompts import ProcessedPrompt


async def completions(request: Request) -> Response:
    """Continue one prompt or several, each a text or a list of token ids."""
    service = service_of(request)
    async with within_deadline(request):
        asked = parse_body(await request.body(), CompletionRequest)
        model = service.check_model(asked.model)
        sampling = completion_sampling(asked, service.default_sampling)
        given = _prompts(asked)
        add_special_tokens = asked.add_special_tokens is not False
        prompts = await service.preparer.prompts(given, add_special_tokens=add_special_tokens)
        echoes = [await _echo(asked, text, prompt, service) for text, prompt in zip(given, prompts, strict=True)]
        generation = await service.begin(request, prompts, sampling)
        answer_id, created = f"cmpl-{request.state.request_id}", int(time.time())
        if asked.stream:
            return EventStream(_events(asked, echoes, generation, answer_id, created, model))
        return json_response(await _whole(asked, echoes, generation, answer_id, created, model))


@dataclass(frozen=True, slots=True)
class _Echo:
    """What stands in front of a completion when `echo` is asked for."""

    text: str = ""
    first_token: str = ""  # the one without a log-probability


async def _echo(asked: CompletionRequest, given: str | list[int], prompt: ProcessedPrompt, service: Service) -> _Echo:
    if not asked.echo:
        return _Echo()
    text = given if isinstance(given, str) else await service.preparer.decode(given)
    return _Echo(text, await service.preparer.decode(prompt.token_ids[:1]))


def _prompts(asked: CompletionRequest) -> list[str | list[int]]:
    """One token list is one prompt; a list of texts or of token lists is several. Raises InvalidRequestError."""
    if isinstance(asked.prompt, str):
        return [asked.prompt]
    numbers = [item for item in asked.prompt if isinstance(item, int)]
    if len(numbers) == len(asked.prompt):
        return [numbers]
    if numbers:
        raise InvalidRequestError("prompt must hold either token ids, or texts and lists of token ids.", "prompt")
    return [item for item in asked.prompt if not isinstance(item, int)]


async def _whole(
    asked: CompletionRequest, echoes: Sequence[_Echo], generation: Generation, answer_id: str, created: int, model: str
) -> Completion:
    choices: list[CompletionChoice] = []
    for echo, output in zip(echoes, await generation.finish(), strict=True):
        for completion in output.outputs:
            logprobs = None
            if completion.logprobs is not None:
                before = output.prompt_logprobs or []
                logprobs = _writer(asked).write([*before, *completion.logprobs], echo.first_token)
            choices.append(
                CompletionChoice(
                    len(choices),
                    echo.text + completion.text,
                    logprobs,
                    completion.finish_reason,
                    completion.stop_reason,
                )
            )
    return Completion(id=answer_id, created=created, model=model, choices=choices, usage=generation.usage())


async def _events(
    asked: CompletionRequest, echoes: Sequence[_Echo], generation: Generation, answer_id: str, created: int, model: str
) -> AsyncGenerator[bytes, None]:
    """Text with, in the last piece of a choice, why it ended; usage if asked for; [DONE]."""
    chunk = partial(Completion, id=answer_id, created=created, model=model)
    writers = [_writer(asked) for _ in range(generation.num_choices)]
    begun: set[int] = set()
    async with aclosing(generation):
        async for index, delta in generation:
            text, positions = delta.text, list[Candidates | None](delta.logprobs or [])
            echo = echoes[index // generation.num_completions]
            if asked.echo and index not in begun:
                begun.add(index)
                text = echo.text + text
                output = generation.outputs()[index // generation.num_completions]
                positions = [*(output.prompt_logprobs or []), *positions]
            if text or positions or delta.finish_reason:
                logprobs: CompletionLogprobs | None = None
                if asked.logprobs is not None:
                    logprobs = writers[index].write(positions, echo.first_token)
                choice = CompletionChoice(index, text, logprobs, delta.finish_reason, delta.stop_reason)
                yield encode_event(chunk(choices=[choice]))
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield encode_event(chunk(choices=[], usage=generation.usage()))
        yield DONE


def _writer(asked: CompletionRequest) -> CompletionLogprobsWriter:
    return CompletionLogprobsWriter(asked.logprobs or 0)
