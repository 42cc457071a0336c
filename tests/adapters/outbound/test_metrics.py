"""Metrics, as a scraper reads them."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from aphrodite.adapters.outbound.telemetry.metrics import PrometheusMetrics
from aphrodite.domain.errors import ImageError, QueueFullError
from aphrodite.domain.generation.outputs import CompletionOutput, RequestMetrics, RequestOutput
from aphrodite.domain.scheduling.stats import EngineStats


def scraped(metrics: PrometheusMetrics) -> dict[str, float]:
    """Name, with its label in brackets, to value; the model's and buckets left out."""
    samples = {}
    for family in text_string_to_metric_families(metrics.exposition()[0].decode()):
        for sample in family.samples:
            assert sample.labels["model_name"] == "m"
            if not sample.name.endswith("_bucket"):
                label = "".join(f"[{value}]" for name, value in sample.labels.items() if name != "model_name")
                samples[sample.name.removeprefix("aphrodite:") + label] = sample.value
    return samples


def output(num_tokens: int = 5, finish_reason: str | None = "stop", **times: float | None) -> RequestOutput:
    completion = CompletionOutput(0, "", [1] * num_tokens, finish_reason=finish_reason)  # type: ignore[arg-type]
    return RequestOutput("r", None, [1, 2, 3], outputs=[completion], metrics=RequestMetrics(10.0, **times))


def test_every_name_is_there_before_anything_happened() -> None:
    samples = scraped(PrometheusMetrics("m"))
    assert set(samples) == {
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "encoder_cache_usage_perc",
        "prefix_cache_queries_total",
        "prefix_cache_hits_total",
        "num_preemptions_total",
        "images_encoded_total",
        "prompt_tokens_total",
        "generation_tokens_total",
        *(
            f"{name}_{part}"
            for name in (
                "request_queue_time_seconds",
                "time_to_first_token_seconds",
                "time_per_output_token_seconds",
                "e2e_request_latency_seconds",
                "image_fetch_seconds",
            )
            for part in ("count", "sum")
        ),
    }
    assert set(samples.values()) == {0.0}


def test_formats_by_what_is_asked_for() -> None:
    metrics = PrometheusMetrics("m")
    for accept in ("", "*/*", "text/plain;version=0.0.4", "nonsense;;=,"):
        assert metrics.exposition(accept)[1].startswith("text/plain")
    # What Prometheus itself sends.
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    written, media_type = metrics.exposition(accept)
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    families = list(openmetrics_families(written.decode()))
    assert {"aphrodite:prompt_tokens", "aphrodite:time_to_first_token_seconds"} <= {family.name for family in families}
    plain = text_string_to_metric_families(metrics.exposition()[0].decode())
    names = {sample.name for family in families for sample in family.samples}
    assert names == {sample.name for family in plain for sample in family.samples}  # or dashboards would show nothing


def test_engine_state_and_counters_that_outlive_an_engine() -> None:
    metrics = PrometheusMetrics("m")
    metrics.note_engine(EngineStats(2, 3, 0.5, 0.25, 100, 60, 1, 4))
    metrics.note_engine(EngineStats(1, 0, 0.25, 0.25, 120, 70, 1, 5))
    metrics.note_engine(EngineStats())  # the engine died
    metrics.note_engine(EngineStats(1, 0, 0.125, 0.0, 30, 10, 2, 1))
    samples = scraped(metrics)
    assert (samples["num_requests_running"], samples["num_requests_waiting"]) == (1, 0)
    assert (samples["kv_cache_usage_perc"], samples["encoder_cache_usage_perc"]) == (0.125, 0.0)
    assert (samples["prefix_cache_queries_total"], samples["prefix_cache_hits_total"]) == (150, 80)
    assert (samples["num_preemptions_total"], samples["images_encoded_total"]) == (3, 6)


def test_a_finished_request() -> None:
    metrics = PrometheusMetrics("m")
    metrics.note_output(output(first_scheduled_s=10.5, first_token_s=11.0, finished_s=13.0))
    samples = scraped(metrics)
    assert (samples["prompt_tokens_total"], samples["generation_tokens_total"]) == (3, 5)
    assert samples["request_success_total[stop]"] == 1
    assert samples["request_queue_time_seconds_sum"] == pytest.approx(0.5)
    assert samples["time_to_first_token_seconds_sum"] == pytest.approx(1.0)
    assert samples["time_per_output_token_seconds_sum"] == pytest.approx(0.5)
    assert samples["e2e_request_latency_seconds_sum"] == pytest.approx(3.0)


@pytest.mark.parametrize(
    "ended",
    [output(0, "abort"), output(2, "abort", first_scheduled_s=10.1, first_token_s=11.0), output(2, None)],
    ids=["never ran", "half way", "no reason given"],
)
def test_an_aborted_request_has_no_latency(ended: RequestOutput) -> None:
    metrics = PrometheusMetrics("m")
    metrics.note_output(ended)
    samples = scraped(metrics)
    assert samples["request_success_total[abort]"] == 1
    assert samples["e2e_request_latency_seconds_count"] == samples["time_per_output_token_seconds_count"] == 0


def test_a_single_token_has_no_time_per_token() -> None:
    metrics = PrometheusMetrics("m")
    metrics.note_output(output(1, "length", first_scheduled_s=10.0, first_token_s=11.0, finished_s=11.0))
    samples = scraped(metrics)
    assert samples["time_per_output_token_seconds_count"] == 0
    assert samples["request_success_total[length]"] == samples["e2e_request_latency_seconds_count"] == 1


def test_errors_and_fetches() -> None:
    metrics = PrometheusMetrics("m")
    for error in (ImageError("x"), ImageError("y"), QueueFullError("z")):
        metrics.note_error(error)
    metrics.note_image_fetch(0.25)
    samples = scraped(metrics)
    assert samples["request_errors_total[ImageError]"] == 2
    assert samples["request_errors_total[QueueFullError]"] == 1
    assert samples["image_fetch_seconds_sum"] == pytest.approx(0.25)


def test_servers_do_not_share_metrics() -> None:
    one, other = PrometheusMetrics("m"), PrometheusMetrics("m")
    one.note_image_fetch(1.0)
    assert scraped(other)["image_fetch_seconds_count"] == 0


def test_the_dashboard_shows_what_there_is() -> None:
    """Every metric is on it, and it asks for no other, under any label that a metric does not have."""
    dashboard = json.loads((Path(__file__).parents[3] / "examples/grafana/aphrodite.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    metrics = PrometheusMetrics("m")
    metrics.note_output(output())
    metrics.note_error(ImageError("x"))
    labels = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(metrics.exposition()[0].decode())
        for sample in family.samples
    }
    names = set(re.findall(r"aphrodite:\w+", asked))
    assert names <= labels.keys()
    assert {name.removesuffix("_bucket") for name in names} == {
        name for name in labels if not name.endswith(("_bucket", "_count", "_sum"))
    } | {name.removesuffix("_bucket") for name in labels if name.endswith("_bucket")}
    for label, name in re.findall(r"by \((\w+)\) \(rate\((aphrodite:\w+)", asked):
        assert label in labels[name]
