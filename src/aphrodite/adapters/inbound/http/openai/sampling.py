"""A request's fields to sampling parameters; the model's own where it says nothing."""

import dataclasses

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.openai.forms import form_of
from aphrodite.adapters.inbound.http.openai.requests import ChatCompletionRequest, CompletionRequest, GenerationFields
from aphrodite.domain.prompting.sampling_params import SamplingParams

_DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's, of text completions

_FIELDS = (
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "min_tokens",
    "logit_bias",
    "skip_special_tokens",
)


def chat_sampling(request: ChatCompletionRequest, default: SamplingParams) -> SamplingParams:
    """Answers end with the context unless a request, with either name of the field, asks for less.

    Raises SamplingParamsError or InvalidRequestError.
    """
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequestError('top_logprobs needs "logprobs": true.', "top_logprobs")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    max_tokens = request.max_completion_tokens or request.max_tokens
    return _sampling(request, default, max_tokens=max_tokens, logprobs=logprobs)


def completion_sampling(request: CompletionRequest, default: SamplingParams) -> SamplingParams:
    """For no tokens at all, one is asked for, which is not shown. Raises SamplingParamsError or InvalidRequestError."""
    if request.max_tokens == 0 and not request.echo:
        raise InvalidRequestError('max_tokens must be at least 1, or 0 with "echo": true.', "max_tokens")
    if request.prompt_logprobs is not None and request.stream:
        raise InvalidRequestError("prompt_logprobs are not told in a stream.", "prompt_logprobs")
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
    prompt_logprobs: int | None = None,
) -> SamplingParams:
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise InvalidRequestError(
            "best_of is supported where it equals n; leave it out.", "best_of", "unsupported_parameter"
        )
    given = {name: value for name in _FIELDS if (value := getattr(request, name)) is not None}
    if given.get("stop") == "":
        del given["stop"]
    return dataclasses.replace(
        default,
        max_tokens=max_tokens,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        structured_outputs=form_of(request),
        **given,
    )
