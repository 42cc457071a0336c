"""The figures of a load: rates, percentiles and failures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aphrodite.bench.measurement import Answer, Measurement


@dataclass(frozen=True)
class Percentiles:
    """Of values in milliseconds."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Percentiles | None":
        """None where there are no values."""
        if not seconds:
            return None
        return cls(*(round(float(value) * 1000, 3) for value in np.percentile(seconds, (50, 90, 99))))


@dataclass(frozen=True)
class Figures:
    """What the report says. Rates count good requests alone, over the time from the first one sent to the last end.

    Time per token is that from an answer's first token to its last, divided by the tokens after the first.
    `offline_ratio` is the server's output tokens a second to those of LLM.generate; both are None when not compared.
    """

    num_good: int
    num_failed: int
    errors: dict[str, int]
    duration_s: float
    requests_per_s: float
    input_tokens: int
    output_tokens: int
    output_tokens_per_s: float
    time_to_first_token_ms: Percentiles | None
    time_per_token_ms: Percentiles | None
    whole_answer_ms: Percentiles | None
    health_check_ms: Percentiles | None
    health_checks: int
    health_checks_failed: int
    offline_output_tokens_per_s: float | None = None
    offline_ratio: float | None = None


def good_answers(measurement: Measurement) -> list[Answer]:
    """The answers that are complete."""
    return [answer for answer in measurement.answers if answer.error is None]


def times_to_first_token_s(answers: Sequence[Answer]) -> list[float]:
    """From when each request was due to the first piece of its answer."""
    return [answer.first_token_s - answer.due_s for answer in answers if answer.first_token_s]


def times_per_token_s(answers: Sequence[Answer]) -> list[float]:
    """For each answer of two tokens or more, the mean time of a token after the first."""
    return [
        (answer.last_token_s - answer.first_token_s) / (answer.num_output_tokens - 1)
        for answer in answers
        if answer.num_output_tokens > 1
    ]


def summarize(measurement: Measurement, offline_output_tokens_per_s: float | None = None) -> Figures:
    """The figures of one load, beside those of the same work without a server where that was measured."""
    good = good_answers(measurement)
    errors = Counter(answer.error for answer in measurement.answers if answer.error is not None)
    duration_s = measurement.ended_s - measurement.started_s
    output_tokens = sum(answer.num_output_tokens for answer in good)
    rate = output_tokens / duration_s
    return Figures(
        num_good=len(good),
        num_failed=errors.total(),
        errors=dict(errors.most_common()),
        duration_s=round(duration_s, 4),
        requests_per_s=round(len(good) / duration_s, 3),
        input_tokens=sum(answer.num_input_tokens for answer in good),
        output_tokens=output_tokens,
        output_tokens_per_s=round(rate, 2),
        time_to_first_token_ms=Percentiles.of(times_to_first_token_s(good)),
        time_per_token_ms=Percentiles.of(times_per_token_s(good)),
        whole_answer_ms=Percentiles.of([answer.ended_s - answer.due_s for answer in good]),
        health_check_ms=Percentiles.of(measurement.health_s),
        health_checks=len(measurement.health_s) + measurement.num_unhealthy,
        health_checks_failed=measurement.num_unhealthy,
        offline_output_tokens_per_s=offline_output_tokens_per_s,
        offline_ratio=round(rate / offline_output_tokens_per_s, 4) if offline_output_tokens_per_s else None,
    )
