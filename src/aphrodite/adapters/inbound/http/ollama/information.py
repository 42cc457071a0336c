"""What Ollama's clients ask of the models: which there are, which run, and what one of them is."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.ollama.protocol import (
    OllamaDetails,
    OllamaModel,
    OllamaModelInformation,
    OllamaModels,
    OllamaRunningModel,
    OllamaRunningModels,
    OllamaShowRequest,
    OllamaVersion,
)
from aphrodite.adapters.inbound.http.request_body import read_body
from aphrodite.adapters.inbound.http.service import Service, service_of

_VERSION = "0.12.6"  # one whose API this is; clients look for features by it
_NEVER = "9999-12-31T00:00:00Z"


async def tags(request: Request) -> Response:
    """The served model, under each of its names."""
    service = service_of(request)
    since = _since(service)
    models = [
        OllamaModel(name=name, model=name, modified_at=since, details=OllamaDetails()) for name in service.model_names
    ]
    return json_response(OllamaModels(models))


async def running_models(request: Request) -> Response:
    """The same: what is served stays loaded."""
    service = service_of(request)
    models = [
        OllamaRunningModel(
            name=name,
            model=name,
            modified_at=_since(service),
            details=OllamaDetails(),
            expires_at=_NEVER,
            context_length=service.client.limits.max_model_len,
        )
        for name in service.model_names
    ]
    return json_response(OllamaRunningModels(models))


async def show(request: Request) -> Response:
    """What the model is, and can do."""
    service = service_of(request)
    async with within_deadline(request):
        asked = await read_body(request, OllamaShowRequest)
    served_name(service, asked.model or asked.name or "")
    return json_response(
        OllamaModelInformation(
            template=service.tokenizer.chat_template or "",
            details=OllamaDetails(),
            model_info={
                "general.architecture": "aphrodite",
                "general.basename": service.model,
                "aphrodite.context_length": service.client.limits.max_model_len,
                "aphrodite.vocab_size": service.tokenizer.vocab_size,
            },
            capabilities=["completion", "tools", "vision"]
            if service.preparer.reads_images
            else ["completion", "tools"],
            modified_at=_since(service),
        )
    )


async def ollama_version(request: Request) -> Response:  # noqa: ARG001 - a route's signature
    """The version of the API."""
    return json_response(OllamaVersion(_VERSION))


def served_name(service: Service, name: str) -> str:
    """The name under which a request asks; clients write `:latest` behind names without a tag.

    Raises UnknownModelError.
    """
    return service.check_model(name if name in service.model_names else name.removesuffix(":latest"))


def _since(service: Service) -> str:
    return datetime.fromtimestamp(service.created, UTC).isoformat().replace("+00:00", "Z")
