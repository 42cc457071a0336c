"""The HTTP application: routes and the layers around them."""

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aphrodite.adapters.inbound.http.api_layer import ApiLayer
from aphrodite.adapters.inbound.http.apis import OPERATIONS, error_type
from aphrodite.adapters.inbound.http.auth import HEALTH_PATHS, KeyAuth
from aphrodite.adapters.inbound.http.body_layer import BodyLayer
from aphrodite.adapters.inbound.http.cors import Cors
from aphrodite.adapters.inbound.http.errors import error_response
from aphrodite.adapters.inbound.http.kept_logprobs import KeptLogprobsLayer
from aphrodite.adapters.inbound.http.openapi import build_openapi, openapi
from aphrodite.adapters.inbound.http.playground.files import playground_routes
from aphrodite.adapters.inbound.http.request_layer import RequestLayer
from aphrodite.adapters.inbound.http.responses.memory import ResponseMemory
from aphrodite.adapters.inbound.http.responses.thread import ThreadBudget
from aphrodite.adapters.inbound.http.root_path import RootPath
from aphrodite.adapters.inbound.http.running import RunningRequests
from aphrodite.adapters.inbound.http.service import Service
from aphrodite.domain.config import ServerConfig
from aphrodite.domain.errors import AphroditeError
from aphrodite.domain.ports import Tracer


def create_app(service: Service, config: ServerConfig, max_images: int, tracer: Tracer | None = None) -> Starlette:
    """The ASGI application, for prompts of at most `max_images`. A request passes, in this order:

    RootPath -> RequestLayer (id, deadline, log, last resort) -> API -> CORS -> keys -> body, disconnects
    -> log-probabilities -> route
    """
    playground = [] if config.disable_playground else playground_routes(max_images)
    layers = [Middleware(RootPath, root_path=config.root_path)] if config.root_path else []
    layers += [Middleware(RequestLayer, timeout_s=config.request_timeout, tracer=tracer), Middleware(ApiLayer)]
    if config.cors_origins:
        layers.append(
            Middleware(
                Cors,
                allow_origins=config.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "x-aphrodite-ignored"],
            )
        )
    # A browser sends no key for a page, and the page holds nothing secret: it asks for the key itself.
    open_paths = HEALTH_PATHS | {route.path for route in playground}
    layers.append(Middleware(KeyAuth, keys=config.api_key, open_paths=open_paths))
    layers.append(Middleware(BodyLayer, max_body_bytes=config.max_body_bytes))
    layers.append(Middleware(KeptLogprobsLayer))
    app = Starlette(
        routes=[*(operation.route() for operation in OPERATIONS), Route("/openapi.json", openapi), *playground],
        middleware=layers,
        exception_handlers={HTTPException: _handle, AphroditeError: _handle},
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.openapi = msgspec.json.encode(build_openapi(OPERATIONS, error_type, config.root_path))
    app.state.running = RunningRequests()
    app.state.responses = ResponseMemory()
    app.state.threads = ThreadBudget()
    app.state.background = set()
    return app


async def _handle(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    return error_response(error)
