"""Spans as a collector of OpenTelemetry gets them, in the protocol's own types."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.e2e.server_process import SMALL, running

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # of the W3C's example


@contextmanager
def collector(spans: list[Span]) -> Iterator[str]:
    """Takes spans at the address that it yields."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {one.key: one.value.string_value for one in of_resource.resource.attributes}
                assert names["service.name"] == "aphrodite"
                spans.extend(span for of_scope in of_resource.scope_spans for span in of_scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


def test_each_request_has_a_span(tmp_path: Path) -> None:
    spans: list[Span] = []
    began_ns = time.time_ns()
    with collector(spans) as endpoint, running(tmp_path / "log", "demo", *SMALL, "--otlp-endpoint", endpoint) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
        answer = client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=5,
            n=2,
            extra_headers={"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"},
        )
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="demo", prompt="Hello", temperature=-1)
        server.get("/health")
        server.get("/no/such/place")
        assert server.stop() == 0
    answered, refused, unknown = sorted(spans, key=lambda span: span.start_time_unix_nano)

    assert answered.name == "POST /v1/chat/completions"
    assert answered.kind == Span.SPAN_KIND_SERVER
    assert (answered.trace_id.hex(), answered.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert began_ns < answered.start_time_unix_nano < answered.end_time_unix_nano < time.time_ns()
    told = attributes(answered)
    assert answer.usage is not None
    assert told["gen_ai.usage.input_tokens"] == answer.usage.prompt_tokens
    assert told["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens
    assert told["http.response.status_code"] == 200
    assert told["client.address"] == "127.0.0.1"
    queue_s, prefill_s, decode_s = (
        told[f"gen_ai.latency.{name}"] for name in ("time_in_queue", "time_in_model_prefill", "time_in_model_decode")
    )
    assert min(queue_s, prefill_s, decode_s) >= 0
    assert queue_s + prefill_s <= told["gen_ai.latency.time_to_first_token"]
    assert queue_s + prefill_s + decode_s <= told["gen_ai.latency.e2e"]

    assert refused.name == "POST /v1/completions"
    assert refused.trace_id.hex() != TRACE_ID
    assert attributes(refused)["error.type"] == "invalid_value"
    assert attributes(refused)["http.response.status_code"] == 400
    assert refused.status.code == Status.STATUS_CODE_UNSET  # it was the client's mistake
    assert unknown.name == "GET"
    assert "http.route" not in attributes(unknown)


@pytest.mark.slow
def test_a_collector_that_is_away_harms_nobody(tmp_path: Path) -> None:
    args = ("--otlp-endpoint", "http://127.0.0.1:9")
    with running(tmp_path / "log", "demo", *SMALL, *args) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
        assert client.completions.create(model="demo", prompt="Hello", max_tokens=1).choices
        assert server.stop() == 0
