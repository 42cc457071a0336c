"""POST /v1/completions."""

import dataclasses
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import InvalidRequestError, name_prompt
from aphrodite.adapters.inbound.http.generation import Generation, check_num_prompt_logprobs
from aphrodite.adapters.inbound.http.json_response import json_response, large_json_response, write_apart
from aphrodite.adapters.inbound.http.openai.forms import naming_form
from aphrodite.adapters.inbound.http.openai.logprobs import (
    Candidates,
    completion_logprobs,
    echo_logprobs,
    prompt_logprobs,
)
from aphrodite.adapters.inbound.http.openai.objects import Completion, CompletionChoice, CompletionLogprobs, Usage
from aphrodite.adapters.inbound.http.openai.parsing import read_request
from aphrodite.adapters.inbound.http.openai.requests import CompletionRequest
from aphrodite.adapters.inbound.http.openai.sampling import completion_sampling
from aphrodite.adapters.inbound.http.openai.usage import written_usage
from aphrodite.adapters.inbound.http.service import Service, service_of
from aphrodite.adapters.inbound.http.sse import DONE, EventStream, encode_event
from aphrodite.domain.generation.assembler import TextDelta
from aphrodite.domain.prompting.prompts import ProcessedPrompt

_MAX_CHOICES = 1024  # of one request


async def completions(request: Request) -> Response:
    """Continue one prompt or several, each a text or a list of token ids."""
    service = service_of(request)
    async with within_deadline(request):
        asked = await read_request(request, CompletionRequest)
        model = service.check_model(asked.model)
        sampling = completion_sampling(asked, service.default_sampling)
        name_prompt(request, "prompt")
        given = _prompts(asked, sampling.n)
        add_special_tokens = asked.add_special_tokens is not False
        prompts = await service.preparer.prompts(given, add_special_tokens=add_special_tokens)
        by = ("logprobs", "echo with logprobs") if asked.prompt_logprobs is None else ("prompt_logprobs",)
        check_num_prompt_logprobs(prompts, sampling, *by)
        echoes = [await _echo(asked, text, prompt, service) for text, prompt in zip(given, prompts, strict=True)]
        asked.prompt, given = "", []  # they may be large, and answers may take long
        request.state.body_lease.release()
        with naming_form(asked):
            generation = await service.generation(
                request, prompts, sampling, streamed=bool(asked.stream), priority=asked.priority or 0
            ).begin()
        answer_id, created = f"cmpl-{request.state.request_id}", int(time.time())
        if asked.stream:
            return EventStream(_events(asked, echoes, generation, answer_id, created, model))
        answer = await _whole(asked, echoes, generation, answer_id, created, model)
        return await large_json_response(answer) if _has_logprobs(asked) else json_response(answer)


@dataclass(frozen=True, slots=True)
class _Echo:
    """What stands in front of a completion when `echo` is asked for."""

    text: str = ""
    first_token: bytes = b""  # the one without a log-probability


async def _echo(asked: CompletionRequest, given: str | list[int], prompt: ProcessedPrompt, service: Service) -> _Echo:
    if not asked.echo:
        return _Echo()
    text = given if isinstance(given, str) else await service.preparer.decode(given)
    return _Echo(text, service.tokenizer.token_bytes(prompt.token_ids[0]))


def _has_logprobs(asked: CompletionRequest) -> bool:
    """Whether the answer may be long to write."""
    return asked.logprobs is not None or asked.prompt_logprobs is not None


def _prompts(asked: CompletionRequest, n: int) -> list[str | list[int]]:
    """What to complete, each `n` times. Raises InvalidRequestError."""
    prompts = _prompt_list(asked)
    if len(prompts) * n > _MAX_CHOICES:
        raise InvalidRequestError(
            f"{len(prompts)} prompts with n = {n} ask for {len(prompts) * n} choices; at most {_MAX_CHOICES} may be "
            "asked for in one request.",
            "n",
        )
    return prompts


def _prompt_list(asked: CompletionRequest) -> list[str | list[int]]:
    """One token list is one prompt; a list of texts or of token lists is several."""
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
    offsets: list[list[int]] = [[] for _ in range(generation.num_choices)]
    async with aclosing(generation):
        async for index, delta in generation:
            offsets[index].append(delta.text_offset)

    def write() -> list[CompletionChoice]:
        choices: list[CompletionChoice] = []
        for prompt_index, (echo, output) in enumerate(zip(echoes, generation.outputs(), strict=True)):
            positions = generation.prompt_logprobs(prompt_index)
            echoed = _echoed_logprobs(asked, echo, positions)
            for completion in output.outputs:
                logprobs = None
                if completion.logprobs is not None:
                    shown = slice(None) if asked.max_tokens != 0 else slice(0)
                    logprobs = _logprobs(asked, echo, completion.logprobs[shown], offsets[len(choices)][shown])
                    if echoed is not None:
                        logprobs = _joined(echoed, logprobs)
                choice = CompletionChoice(
                    len(choices),
                    echo.text + completion.text,
                    logprobs,
                    completion.finish_reason,
                    completion.stop_reason,
                )
                if asked.max_tokens == 0:
                    choice = CompletionChoice(len(choices), echo.text, logprobs, "length")
                if asked.prompt_logprobs is not None and positions is not None:
                    choice.prompt_logprobs = prompt_logprobs(positions, asked.prompt_logprobs)
                if asked.return_token_ids:
                    choice.token_ids = completion.token_ids if asked.max_tokens != 0 else []
                    choice.prompt_token_ids = output.prompt_token_ids
                choices.append(choice)
        return choices

    # Log-probabilities can be many; other requests go on meanwhile.
    choices = await write_apart(write) if _has_logprobs(asked) else write()
    return Completion(id=answer_id, created=created, model=model, choices=choices, usage=_usage(asked, generation))


async def _events(
    asked: CompletionRequest, echoes: Sequence[_Echo], generation: Generation, answer_id: str, created: int, model: str
) -> AsyncGenerator[bytes, None]:
    """Text with, in the last piece of a choice, why it ended; usage if asked for; [DONE]."""
    chunk = partial(Completion, id=answer_id, created=created, model=model)
    begun: set[int] = set()
    async with aclosing(generation):
        async for index, delta in generation:
            prompt_index = index // generation.num_completions
            if asked.max_tokens == 0:
                delta = _hidden(delta)
            echo, text = echoes[prompt_index], delta.text
            logprobs = None
            if delta.logprobs is not None:
                logprobs = _logprobs(asked, echo, delta.logprobs, [delta.text_offset] * len(delta.logprobs))
            is_first = index not in begun
            begun.add(index)
            if asked.echo and is_first:
                text = echo.text + text
                echoed = _echoed_logprobs(asked, echo, generation.prompt_logprobs(prompt_index))
                if echoed is not None and logprobs is not None:
                    logprobs = _joined(echoed, logprobs)
            if text or logprobs or delta.finish_reason or asked.return_token_ids:
                choice = CompletionChoice(index, text, logprobs, delta.finish_reason, delta.stop_reason)
                if asked.return_token_ids:
                    choice.token_ids = delta.token_ids
                    if is_first:
                        choice.prompt_token_ids = generation.prompt_token_ids(prompt_index)
                yield encode_event(chunk(choices=[choice]))
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield encode_event(chunk(choices=[], usage=_usage(asked, generation)))
        yield DONE


def _hidden(delta: TextDelta) -> TextDelta:
    """The one token that was made where none was asked for: its end, not itself."""
    logprobs = delta.logprobs and delta.logprobs[:0]
    return dataclasses.replace(
        delta, text="", token_ids=[], logprobs=logprobs, finish_reason="length", stop_reason=None
    )


def _usage(asked: CompletionRequest, generation: Generation) -> Usage:
    usage = written_usage(generation.usage())
    if asked.max_tokens == 0:
        usage.completion_tokens, usage.total_tokens = 0, usage.prompt_tokens
    return usage


def _logprobs(
    asked: CompletionRequest, echo: _Echo, positions: Sequence[Candidates], offsets: Sequence[int]
) -> CompletionLogprobs:
    return completion_logprobs(positions, [len(echo.text) + offset for offset in offsets], asked.logprobs or 0)


def _echoed_logprobs(
    asked: CompletionRequest, echo: _Echo, positions: Sequence[Candidates | None] | None
) -> CompletionLogprobs | None:
    """Of the prompt; None where none were asked for."""
    if positions is None or not asked.echo or asked.logprobs is None:
        return None
    found = [position for position in positions if position is not None]
    return echo_logprobs(echo.text, echo.first_token, found, asked.logprobs or 0)


def _joined(first: CompletionLogprobs, second: CompletionLogprobs) -> CompletionLogprobs:
    return CompletionLogprobs(
        first.tokens + second.tokens,
        first.token_logprobs + second.token_logprobs,
        first.top_logprobs + second.top_logprobs,
        first.text_offset + second.text_offset,
    )
