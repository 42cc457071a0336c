"""Calls from browsers, for the pages of the origins that the operator names."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from aphrodite.adapters.inbound.http.errors import InvalidRequestError, error_response


class Cors(CORSMiddleware):
    """Starlette's, with its refusals in our shape."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        refusal = error_response(InvalidRequestError("This origin, method or header may not be used from a browser."))
        for name in ("vary", "access-control-allow-origin"):
            if name in response.headers:
                refusal.headers[name] = response.headers[name]
        return refusal
