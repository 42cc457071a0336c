"""What a trace tells of a request, by the names of OpenTelemetry's conventions for HTTP and for generative models."""

import time

from starlette.datastructures import Headers
from starlette.types import Scope

from aphrodite.adapters.inbound.http.request_note import RequestNote
from aphrodite.domain.ports import AnsweredRequest

_PROPAGATED = ("traceparent", "tracestate")  # of the W3C's Trace Context


def answered_request(scope: Scope, status: int, duration_s: float, note: RequestNote) -> AnsweredRequest:
    """Of one that has just ended; status 0 where its client left before an answer."""
    ended_ns = time.time_ns()
    headers = Headers(scope=scope)
    route = getattr(scope.get("route"), "path", None)  # what a client asked for may be anything
    known: dict[str, str | int | float | None] = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": status or None,
        "client.address": note.client or None,
        "error.type": note.error_code,
        "gen_ai.request.id": scope["state"]["request_id"],
        "gen_ai.usage.input_tokens": note.num_prompt_tokens,
        "gen_ai.usage.output_tokens": note.num_output_tokens,
        "gen_ai.latency.e2e": duration_s,
        "gen_ai.latency.time_in_queue": note.queue_s,
        "gen_ai.latency.time_to_first_token": note.first_token_s,
        "gen_ai.latency.time_in_model_prefill": note.prefill_s,
        "gen_ai.latency.time_in_model_decode": note.decode_s,
    }
    return AnsweredRequest(
        name=f"{scope['method']} {route}" if route else scope["method"],
        started_ns=ended_ns - round(duration_s * 1e9),
        ended_ns=ended_ns,
        headers={name: headers[name] for name in _PROPAGATED if name in headers},
        attributes={name: value for name, value in known.items() if value is not None},
        has_failed=status >= 500,
    )
