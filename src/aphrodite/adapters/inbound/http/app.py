"""The HTTP application: routes and the layers around them."""

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aphrodite.adapters.inbound.http.auth import BearerAuth
from aphrodite.adapters.inbound.http.body_layer import BodyLayer
from aphrodite.adapters.inbound.http.cors import Cors
from aphrodite.adapters.inbound.http.errors import error_response
from aphrodite.adapters.inbound.http.kept_logprobs import KeptLogprobsLayer
from aphrodite.adapters.inbound.http.openai.chat_completions import chat_completions
from aphrodite.adapters.inbound.http.openai.completions import completions
from aphrodite.adapters.inbound.http.openai.information import health, metrics, model, models, version
from aphrodite.adapters.inbound.http.openai.openapi import build_openapi, openapi
from aphrodite.adapters.inbound.http.openai.tokenize import detokenize, tokenize
from aphrodite.adapters.inbound.http.request_layer import RequestLayer
from aphrodite.adapters.inbound.http.service import Service
from aphrodite.domain.config import ServerConfig
from aphrodite.domain.errors import AphroditeError


def create_app(service: Service, config: ServerConfig) -> Starlette:
    """The ASGI application. A request passes, in this order:

    RequestLayer (id, deadline, log, last resort) -> CORS -> keys -> body, disconnects -> log-probabilities -> route
    """
    layers = [Middleware(RequestLayer, timeout_s=config.request_timeout)]
    if config.cors_origins:
        layers.append(
            Middleware(
                Cors,
                allow_origins=config.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "x-aphrodite-ignored"],
            )
        )
    layers.append(Middleware(BearerAuth, keys=config.api_key))
    layers.append(Middleware(BodyLayer, max_body_bytes=config.max_body_bytes))
    layers.append(Middleware(KeptLogprobsLayer))
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/tokenize", tokenize, methods=["POST"]),
            Route("/v1/detokenize", detokenize, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/health", health),
            Route("/version", version),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
        ],
        middleware=layers,
        exception_handlers={HTTPException: _handle, AphroditeError: _handle},
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.openapi = msgspec.json.encode(build_openapi())
    return app


async def _handle(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    return error_response(error)
