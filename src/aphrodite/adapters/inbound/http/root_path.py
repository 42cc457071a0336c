"""--root-path: paths as clients of a proxy write them."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """ASGI middleware that takes the prefix away which a proxy may have left in front of a path."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == self._root_path or path.startswith(self._root_path + "/"):
            scope["path"] = path.removeprefix(self._root_path) or "/"
        await self._app(scope, receive, send)
