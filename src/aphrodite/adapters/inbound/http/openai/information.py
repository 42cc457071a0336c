"""What the server says of itself: GET /v1/models, /health, /load, /version, /tokenizer_info and /metrics."""

from importlib.metadata import version as installed_version

from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.errors import UnknownModelError
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.openai.objects import Health, Load, Model, ModelList, TokenizerInfo, Version
from aphrodite.adapters.inbound.http.service import Service, service_of


async def models(request: Request) -> Response:
    """The served model, under each of its names."""
    service = service_of(request)
    return json_response(ModelList([_model(service, name) for name in service.model_names]))


async def model(request: Request) -> Response:
    """One of the names; 404 for another."""
    service = service_of(request)
    name: str = request.path_params["name"]
    if name not in service.model_names:
        raise UnknownModelError(f"The model is not served here; there is: {', '.join(service.model_names)}.")
    return json_response(_model(service, name))


async def health(request: Request) -> Response:
    """200 while requests are taken, 503 else."""
    if service_of(request).client.is_healthy:
        return json_response(Health("ok"))
    return json_response(Health("unavailable"), 503)


async def ping(request: Request) -> Response:
    """As `health`; any method that it is asked by."""
    return await health(request)


async def load(request: Request) -> Response:
    """How much is under way, for those who spread requests over servers."""
    stats = service_of(request).client.stats
    return json_response(Load(stats.num_running + stats.num_waiting))


async def tokenizer_info(request: Request) -> Response:
    """What clients that count or cut tokens themselves want to know."""
    service = service_of(request)
    tokenizer = service.tokenizer
    return json_response(
        TokenizerInfo(
            vocab_size=tokenizer.vocab_size,
            max_model_len=service.client.limits.max_model_len,
            eos_token_ids=sorted(tokenizer.eos_token_ids),
            special_tokens=dict(tokenizer.special_tokens),
            chat_template=tokenizer.chat_template,
        )
    )


async def version(request: Request) -> Response:  # noqa: ARG001 - a route's signature
    """The installed package's version."""
    return json_response(Version(installed_version("aphrodite-vlm")))


async def metrics(request: Request) -> Response:
    """Everything that is counted and measured, in Prometheus' text format, or OpenMetrics where that is asked for."""
    service = service_of(request)
    service.metrics.note_engine(service.client.stats)
    written, media_type = service.metrics.exposition(request.headers.get("accept", ""))
    return Response(written, headers={"Content-Type": media_type})


def _model(service: Service, name: str) -> Model:
    return Model(
        id=name, created=service.created, root=service.model, max_model_len=service.client.limits.max_model_len
    )
