"""Spans of OpenTelemetry, sent by OTLP over HTTP in protobuf; the library is an extra."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aphrodite.domain.errors import ConfigError
from aphrodite.domain.ports import AnsweredRequest

if TYPE_CHECKING:
    pass

_TRACES_PATH = "/v1/traces"  # below a collector's address, by the specification of OTLP
_TIMEOUT_S = 5.0


class OtlpTracer:
    """Implements `domain.ports.Tracer`. What a collector does not take is lost after some tries, and logged."""

    def __init__(self, endpoint: str, service_version: str) -> None:
        """`endpoint` is a collector's address, as in http://localhost:4318. Raises ConfigError without the library."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise ConfigError("--otlp-endpoint needs OpenTelemetry: pip install 'aphrodite-vlm[otel]'.") from error
        resource = Resource.create({"service.name": "aphrodite", "service.version": service_version})
        self._provider: TracerProvider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint.removesuffix("/") + _TRACES_PATH, timeout=_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("aphrodite", service_version)

    def trace(self, request: AnsweredRequest) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        span = self._tracer.start_span(
            request.name,
            context=TraceContextTextMapPropagator().extract(_lower(request.headers)),
            kind=SpanKind.SERVER,
            attributes=dict(request.attributes),
            start_time=request.started_ns,
        )
        if request.has_failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(request.ended_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
