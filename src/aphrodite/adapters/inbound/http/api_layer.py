"""Which API a request is for."""

from starlette.types import ASGIApp, Receive, Scope, Send

from aphrodite.adapters.inbound.http.apis import error_type


class ApiLayer:
    """ASGI middleware: a slash at a path's end counts for nothing, and errors have the form of the path's API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if len(path) > 1:
            scope["path"] = path.removesuffix("/")
        scope["state"]["error_form"] = error_type(scope["path"])
        await self._app(scope, receive, send)
