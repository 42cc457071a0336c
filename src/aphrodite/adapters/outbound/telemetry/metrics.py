"""Metrics in Prometheus' text format. The names follow those that other engines' dashboards know."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from aphrodite.domain.errors import AphroditeError
from aphrodite.domain.generation.outputs import RequestOutput
from aphrodite.domain.scheduling.stats import EngineStats

_FIRST_TOKEN_S = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_FETCH_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class PrometheusMetrics:
    """Metrics of one server, on a registry of their own; implements the Metrics port. Thread-safe."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._running = Gauge("aphrodite:num_requests_running", "Sequences that have KV blocks.", registry=registry)
        self._waiting = Gauge("aphrodite:num_requests_waiting", "Sequences that wait for blocks.", registry=registry)
        self._kv_cache = Gauge(
            "aphrodite:kv_cache_usage_perc", "Share of the KV cache in use; 1 is all of it.", registry=registry
        )
        self._encoder_cache = Gauge(
            "aphrodite:encoder_cache_usage_perc", "Share of the image features' room in use.", registry=registry
        )
        self._engine_counters = {
            "num_prefix_cache_queries": Counter(
                "aphrodite:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", registry=registry
            ),
            "num_prefix_cache_hits": Counter(
                "aphrodite:prefix_cache_hits", "Prompt tokens found in the prefix cache.", registry=registry
            ),
            "num_preemptions": Counter(
                "aphrodite:num_preemptions", "Sequences put back for want of KV blocks.", registry=registry
            ),
            "num_images_encoded": Counter("aphrodite:images_encoded", "Images encoded.", registry=registry),
        }
        self._engine_counts = dict.fromkeys(self._engine_counters, 0)
        self._prompt_tokens = Counter(
            "aphrodite:prompt_tokens", "Prompt tokens of ended requests, image tokens included.", registry=registry
        )
        self._generation_tokens = Counter(
            "aphrodite:generation_tokens", "Generated tokens of ended requests.", registry=registry
        )
        self._finished = Counter(
            "aphrodite:request_success", "Ended completions.", ["finished_reason"], registry=registry
        )
        self._errors = Counter(
            "aphrodite:request_errors", "Requests that ended with an error.", ["error"], registry=registry
        )
        self._queue = Histogram(
            "aphrodite:request_queue_time_seconds",
            "From arrival to the first step.",
            registry=registry,
            buckets=_FIRST_TOKEN_S,
        )
        self._first_token = Histogram(
            "aphrodite:time_to_first_token_seconds",
            "From arrival to the first token.",
            registry=registry,
            buckets=_FIRST_TOKEN_S,
        )
        self._output_token = Histogram(
            "aphrodite:time_per_output_token_seconds",
            "Mean time between a request's tokens.",
            registry=registry,
            buckets=_TOKEN_S,
        )
        self._latency = Histogram(
            "aphrodite:e2e_request_latency_seconds",
            "From arrival to the last token.",
            registry=registry,
            buckets=_REQUEST_S,
        )
        self._image_fetch = Histogram(
            "aphrodite:image_fetch_seconds", "Fetching one image.", registry=registry, buckets=_FETCH_S
        )

    def exposition(self) -> bytes:
        """All metrics, as `content_type` says."""
        return generate_latest(self._registry)

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
            self._finished.labels(completion.finish_reason or "abort").inc()
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
        self._errors.labels(type(error).__name__).inc()

    def note_image_fetch(self, duration_s: float) -> None:
        self._image_fetch.observe(duration_s)
