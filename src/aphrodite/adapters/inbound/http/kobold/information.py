"""What Kobold's clients ask before they generate: the model, its context, tokens, versions."""

import time

from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.kobold.protocol import (
    KoboldCount,
    KoboldCountRequest,
    KoboldNumber,
    KoboldPerformance,
    KoboldString,
    KoboldVersion,
)
from aphrodite.adapters.inbound.http.kobold.sampling import DEFAULT_MAX_LENGTH
from aphrodite.adapters.inbound.http.request_body import read_body
from aphrodite.adapters.inbound.http.service import service_of

_KOBOLD_VERSION = "1.2.5"  # of KoboldAI's API, the last one
_KOBOLDCPP_VERSION = "1.99"  # a version whose extra endpoints are these


async def model(request: Request) -> Response:
    """The served model's name."""
    return json_response(KoboldString(service_of(request).model_names[0]))


async def info_version(request: Request) -> Response:  # noqa: ARG001 - a route's signature
    """The version of the API."""
    return json_response(KoboldString(_KOBOLD_VERSION))


async def extra_version(request: Request) -> Response:
    """The version of koboldcpp's additions to it, and which of them there are."""
    service = service_of(request)
    return json_response(
        KoboldVersion(
            version=_KOBOLDCPP_VERSION,
            protected=getattr(request.state, "api_key", None) is not None,
            vision=service.preparer.reads_images,
        )
    )


async def max_context_length(request: Request) -> Response:
    """Tokens that the context holds, prompt and answer together."""
    return json_response(KoboldNumber(service_of(request).client.limits.max_model_len))


async def max_length(request: Request) -> Response:  # noqa: ARG001 - a route's signature
    """Tokens that an answer has at most where a request does not say."""
    return json_response(KoboldNumber(DEFAULT_MAX_LENGTH))


async def performance(request: Request) -> Response:
    """How busy the server is."""
    service = service_of(request)
    stats = service.client.stats
    return json_response(
        KoboldPerformance(
            queue=stats.num_waiting,
            idle=0 if stats.num_running + stats.num_waiting else 1,
            uptime=int(time.time()) - service.created,
        )
    )


async def token_count(request: Request) -> Response:
    """How many tokens a text has, and which."""
    service = service_of(request)
    async with within_deadline(request):
        asked = await read_body(request, KoboldCountRequest)
        if not asked.prompt:
            return json_response(KoboldCount(0, []))
        add_special_tokens = asked.special is not False
        [prompt] = await service.preparer.prompts([asked.prompt], add_special_tokens=add_special_tokens)
    return json_response(KoboldCount(len(prompt.token_ids), prompt.token_ids))
