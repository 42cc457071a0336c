"""Metrics as Prometheus reads them. The names follow those that other engines' dashboards know."""

from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics

from aphrodite.domain.errors import AphroditeError
from aphrodite.domain.generation.outputs import RequestOutput
from aphrodite.domain.scheduling.stats import EngineStats

_FIRST_TOKEN_S = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_FETCH_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class PrometheusMetrics:
    """Metrics of one server, on a registry of their own, each with the model's name; implements the Metrics port.
    Thread-safe.
    """

    def __init__(self, model_name: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a gauge beside each counter, which says when it was made
        self._registry = registry = CollectorRegistry()
        self._model = {"model_name": model_name}

        def gauge(name: str, says: str) -> Gauge:
            return Gauge(f"aphrodite:{name}", says, ["model_name"], registry=registry).labels(model_name)

        def counter(name: str, says: str) -> Counter:
            return Counter(f"aphrodite:{name}", says, ["model_name"], registry=registry).labels(model_name)

        def counters(name: str, says: str, label: str) -> Counter:
            return Counter(f"aphrodite:{name}", says, ["model_name", label], registry=registry)

        def histogram(name: str, says: str, buckets: Sequence[float]) -> Histogram:
            made = Histogram(f"aphrodite:{name}", says, ["model_name"], registry=registry, buckets=buckets)
            return made.labels(model_name)

        self._running = gauge("num_requests_running", "Sequences that have KV blocks.")
        self._waiting = gauge("num_requests_waiting", "Sequences that wait for blocks.")
        self._kv_cache = gauge("kv_cache_usage_perc", "Share of the KV cache in use; 1 is all of it.")
        self._encoder_cache = gauge("encoder_cache_usage_perc", "Share of the image features' room in use.")
        self._engine_counters = {
            "num_prefix_cache_queries": counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache."),
            "num_prefix_cache_hits": counter("prefix_cache_hits", "Prompt tokens found in the prefix cache."),
            "num_preemptions": counter("num_preemptions", "Sequences put back for want of KV blocks."),
            "num_images_encoded": counter("images_encoded", "Images encoded."),
        }
        self._engine_counts = dict.fromkeys(self._engine_counters, 0)
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens of ended requests, image tokens included.")
        self._generation_tokens = counter("generation_tokens", "Generated tokens of ended requests.")
        self._finished = counters("request_success", "Ended completions.", "finished_reason")
        self._errors = counters("request_errors", "Requests that ended with an error.", "error")
        self._queue = histogram("request_queue_time_seconds", "From arrival to the first step.", _FIRST_TOKEN_S)
        self._first_token = histogram("time_to_first_token_seconds", "From arrival to the first token.", _FIRST_TOKEN_S)
        self._output_token = histogram(
            "time_per_output_token_seconds", "Mean time between a request's tokens.", _TOKEN_S
        )
        self._latency = histogram("e2e_request_latency_seconds", "From arrival to the last token.", _REQUEST_S)
        self._image_fetch = histogram("image_fetch_seconds", "Fetching one image.", _FETCH_S)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, in the format that an Accept header asks for, and its media type."""
        if openmetrics.CONTENT_TYPE_LATEST.partition(";")[0] in accept:
            # Colons belong to our names; the library would write underscores.
            written: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
                self._registry, escaping="allow-utf-8", version="1.0.0"
            )
            return written, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def note_engine(self, stats: EngineStats) -> None:
        self._running.set(stats.num_running)
        self._waiting.set(stats.num_waiting)
        self._kv_cache.set(stats.kv_cache_usage)
        self._encoder_cache.set(stats.encoder_cache_usage)
        for name, counter in self._engine_counters.items():
            count, before = getattr(stats, name), self._engine_counts[name]
            counter.inc(count - before if count >= before else count)  # less than before: a new engine counts
            self._engine_counts[name] = count

    def note_output(self, output: RequestOutput) -> None:
        self._prompt_tokens.inc(len(output.prompt_token_ids))
        for completion in output.outputs:
            self._generation_tokens.inc(len(completion.token_ids))
            self._finished.labels(**self._model, finished_reason=completion.finish_reason or "abort").inc()
        times = output.metrics
        if times is None:
            return
        if times.queue_time_s is not None:
            self._queue.observe(times.queue_time_s)
        if times.time_to_first_token_s is not None:
            self._first_token.observe(times.time_to_first_token_s)
        if times.finished_s is not None:
            self._latency.observe(times.finished_s - times.arrival_s)
            num_intervals = max(len(completion.token_ids) for completion in output.outputs) - 1
            if times.first_token_s is not None and num_intervals > 0:
                self._output_token.observe((times.finished_s - times.first_token_s) / num_intervals)

    def note_error(self, error: AphroditeError) -> None:
        self._errors.labels(**self._model, error=type(error).__name__).inc()

    def note_image_fetch(self, duration_s: float) -> None:
        self._image_fetch.observe(duration_s)
