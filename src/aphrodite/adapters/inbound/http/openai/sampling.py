"""A request's fields to sampling parameters; the model's own where it says nothing."""

import dataclasses

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.openai.forms import form_of
from aphrodite.adapters.inbound.http.openai.requests import ChatCompletionRequest, CompletionRequest, GenerationFields
from aphrodite.adapters.inbound.http.sampling_fields import OPENAI, given
from aphrodite.domain.prompting.sampling_params import SamplingParams

_DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's, of text completions

_LISTS = (
    "stop", "stop_token_ids", "logit_bias", "dry_sequence_breakers", "custom_token_bans", "bad_words",
    "sampler_priority",
)  # fmt: skip


def chat_sampling(request: ChatCompletionRequest, default: SamplingParams) -> SamplingParams:
    """Answers end with the context unless a request, with either name of the field, asks for less.

    Raises SamplingParamsError or InvalidRequestError.
    """
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequestError('top_logprobs needs "logprobs": true.', "top_logprobs")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    max_tokens = request.max_completion_tokens or request.max_tokens
    return _sampling(
        request, default, max_tokens=max_tokens, logprobs=logprobs, prompt_logprobs=request.prompt_logprobs
    )


def completion_sampling(request: CompletionRequest, default: SamplingParams) -> SamplingParams:
    """For no tokens at all, one is asked for, which is not shown. Raises SamplingParamsError or InvalidRequestError."""
    if request.max_tokens == 0 and not request.echo:
        raise InvalidRequestError('max_tokens must be at least 1, or 0 with "echo": true.', "max_tokens")
    prompt_logprobs = (request.logprobs if request.echo else None, request.prompt_logprobs)
    return _sampling(
        request,
        default,
        max_tokens=_DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else max(request.max_tokens, 1),
        logprobs=request.logprobs,
        prompt_logprobs=max((wanted for wanted in prompt_logprobs if wanted is not None), default=None),
    )


def _sampling(
    request: GenerationFields,
    default: SamplingParams,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    asked = given(request, OPENAI)
    if request.prompt_logprobs is not None and request.stream:
        raise InvalidRequestError("prompt_logprobs are not told in a stream.", "prompt_logprobs")
    if request.best_of is not None and request.best_of != asked.get("n", 1):
        raise InvalidRequestError(
            "best_of is supported where it equals n; leave it out.", "best_of", "unsupported_parameter"
        )
    asked |= {name: value for name in _LISTS if (value := getattr(request, name)) not in (None, "")}
    return dataclasses.replace(
        default,
        max_tokens=max_tokens,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        structured_outputs=form_of(request),
        **asked,
    )
