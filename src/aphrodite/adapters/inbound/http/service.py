"""What the routes share."""

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from starlette.requests import Request

from aphrodite.adapters.inbound.http.errors import InvalidRequestError, UnknownModelError
from aphrodite.adapters.inbound.http.generation import Generation
from aphrodite.adapters.inbound.http.preparation import Preparer
from aphrodite.adapters.inbound.http.request_note import note_of
from aphrodite.domain.ports import Clock, Metrics, Tokenizer
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.prompts import ProcessedPrompt
from aphrodite.domain.prompting.repetition import with_token_ids
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.engine.client import EngineClient


class ExposedMetrics(Metrics, Protocol):
    """Metrics that can be shown."""

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All of them, in the format that an Accept header asks for, and its media type."""


@dataclass(frozen=True, slots=True)
class Service:
    """One model, ready to be asked."""

    model: str  # what it was loaded from
    model_names: tuple[str, ...]  # what requests may call it
    client: EngineClient
    preparer: Preparer
    tokenizer: Tokenizer
    clock: Clock
    metrics: ExposedMetrics
    default_sampling: SamplingParams
    chat_template: ChatTemplate
    tool_call_parser: str | None  # names; None: found by the chat template
    reasoning_parser: str | None
    trust_request_chat_template: bool
    takes_processor_settings: bool  # of the image processor, from requests
    max_logprobs: int  # candidates beside each token
    body_executor: Executor  # decodes large bodies, one after the other
    created: int = field(default_factory=lambda: int(time.time()))  # seconds since 1970

    def check_model(self, name: str | None) -> str:
        """The name under which a request asks. Raises UnknownModelError."""
        if name is not None and name not in self.model_names:
            raise UnknownModelError(
                f"The model {name[:200]!r} is not served here; there is: {', '.join(self.model_names)}."
            )
        return name or self.model_names[0]

    def generation(
        self,
        request: Request,
        prompts: Sequence[ProcessedPrompt],
        sampling: SamplingParams,
        *,
        streamed: bool,
        markup: Sequence[str] = (),
        priority: int = 0,
    ) -> Generation:
        """Prompts that are to be answered; `Generation.begin` has them answered. Special tokens in `markup` are shown.

        Raises InvalidRequestError.
        """
        if max(sampling.logprobs or 0, sampling.prompt_logprobs or 0) > self.max_logprobs:
            raise InvalidRequestError(
                f"At most {self.max_logprobs} log-probabilities a token may be asked for here; --max-logprobs says so.",
                "logprobs",
            )
        return Generation(
            request.state.request_id,
            client_of(request),
            prompts,
            with_token_ids(sampling, partial(self.tokenizer.encode, add_special_tokens=False)),
            client=self.client,
            tokenizer=self.tokenizer.showing(markup),
            clock=self.clock,
            metrics=self.metrics,
            note=note_of(request.scope),
            kept_logprobs=request.state.kept_logprobs,
            streamed=streamed,
            priority=priority,
        )


def client_of(request: Request) -> str:
    """Who asks: a key where keys are needed, else an address."""
    key: str | None = getattr(request.state, "api_key", None)
    return key or (request.client.host if request.client is not None else "")


def service_of(request: Request) -> Service:
    """The service behind the application that a request came to."""
    service: Service = request.app.state.service
    return service
