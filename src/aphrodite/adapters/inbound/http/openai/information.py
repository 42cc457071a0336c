"""What the server says of itself: GET /v1/models, /health, /version and /metrics."""

from importlib.metadata import version as installed_version

from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.errors import UnknownModelError
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.openai.protocol import Health, Model, ModelList, Version
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


async def version(request: Request) -> Response:  # noqa: ARG001 - a route's signature
    """The installed package's version."""
    return json_response(Version(installed_version("aphrodite-vlm")))


async def metrics(request: Request) -> Response:
    """Everything that is counted and measured, in Prometheus' text format."""
    service = service_of(request)
    service.metrics.note_engine(service.client.stats)
    return Response(service.metrics.exposition(), headers={"Content-Type": service.metrics.content_type})


def _model(service: Service, name: str) -> Model:
    return Model(
        id=name, created=service.created, root=service.model, max_model_len=service.client.limits.max_model_len
    )
