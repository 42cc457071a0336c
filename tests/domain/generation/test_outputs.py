import dataclasses

import pytest

from aphrodite.domain.generation.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput


def test_the_fields_that_users_read() -> None:
    fields = {kind: [field.name for field in dataclasses.fields(kind)] for kind in (RequestOutput, CompletionOutput)}
    assert fields == {
        RequestOutput: [
            "request_id", "prompt", "prompt_token_ids", "prompt_logprobs", "outputs", "finished", "metrics",
            "num_cached_tokens",
        ],
        CompletionOutput: [
            "index", "text", "token_ids", "cumulative_logprob", "logprobs", "finish_reason", "stop_reason",
        ],
    }  # fmt: skip
    assert Logprob(-0.5, 1).decoded_token is None


def test_times_are_measured_from_the_arrival() -> None:
    metrics = RequestMetrics(arrival_s=10.0, first_scheduled_s=10.5, first_token_s=12.0, finished_s=13.0)
    assert metrics.queue_time_s == 0.5
    assert metrics.time_to_first_token_s == 2.0
    assert RequestMetrics(arrival_s=10.0).queue_time_s is None
    assert RequestMetrics(arrival_s=10.0).time_to_first_token_s is None


def test_results_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CompletionOutput(0, "", []).text = "other"  # type: ignore[misc]
