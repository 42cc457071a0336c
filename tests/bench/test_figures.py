"""Arrivals and figures of `aphrodite bench serve`, against numpy and by hand."""

import numpy as np
import pytest

from aphrodite.bench.figures import Percentiles, summarize
from aphrodite.bench.load import poisson_arrivals
from aphrodite.bench.measurement import Answer, Measurement
from aphrodite.bench.options import parse_image_size
from aphrodite.bench.report import table
from aphrodite.bench.workload import Workload
from aphrodite.domain.errors import ConfigError


def test_arrivals_are_a_poisson_process() -> None:
    arrivals = poisson_arrivals(20_000, 8.0, seed=3)
    gaps = np.diff(arrivals, prepend=0)
    assert (gaps > 0).all()
    assert gaps.mean() == pytest.approx(1 / 8, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 8, rel=0.03)  # of an exponential distribution, as its mean
    counts = np.bincount(arrivals.astype(int))[:-1]  # in each second
    assert counts.var() == pytest.approx(counts.mean(), rel=0.1)
    assert (arrivals == poisson_arrivals(20_000, 8.0, seed=3)).all()
    assert (arrivals != poisson_arrivals(20_000, 8.0, seed=4)).all()


def test_percentiles_are_those_of_numpy() -> None:
    seconds = np.random.default_rng(1).exponential(0.1, 501)
    found = Percentiles.of(seconds.tolist())
    assert found is not None
    expected = np.percentile(seconds, [50, 90, 99]) * 1000
    assert (found.p50, found.p90, found.p99) == pytest.approx(tuple(expected), abs=1e-3)
    assert Percentiles.of([]) is None


def test_figures_count_good_answers_alone() -> None:
    good = [Answer(float(i), i + 2.0, i + 0.5, i + 1.5, num_input_tokens=7, num_output_tokens=11) for i in range(3)]
    bad = [Answer(0.0, 9.0, error="HTTP 429"), Answer(0.0, 9.0, error="HTTP 429"), Answer(0.0, 9.0, error="timeout")]
    figures = summarize(Measurement(0.0, 4.0, [*good, *bad], [0.001, 0.003], 1), 16.5)
    assert (figures.num_good, figures.num_failed) == (3, 3)
    assert figures.errors == {"HTTP 429": 2, "timeout": 1}
    assert figures.requests_per_s == 0.75
    assert (figures.input_tokens, figures.output_tokens, figures.output_tokens_per_s) == (21, 33, 8.25)
    assert figures.offline_ratio == 0.5
    assert figures.time_to_first_token_ms == Percentiles(500, 500, 500)
    assert figures.time_per_token_ms == Percentiles(100, 100, 100)  # a second for the ten after the first
    assert figures.whole_answer_ms == Percentiles(2000, 2000, 2000)
    assert (figures.health_checks, figures.health_checks_failed) == (3, 1)
    text = table(figures)
    for part in ("3 good, 3 failed", "HTTP 429", "the server reaches 50.0%", "1 of 3 health checks failed"):
        assert part in text


def test_figures_of_nothing_but_failures() -> None:
    figures = summarize(Measurement(0.0, 1.0, [Answer(0.0, 1.0, error="timeout")], [], 0))
    assert figures.output_tokens_per_s == 0
    assert figures.time_to_first_token_ms is None
    assert "0 good, 1 failed" in table(figures)


def test_prompts_repeat_with_their_seed_and_differ_from_each_other() -> None:
    def prompts(seed: int) -> list[str]:
        return [str(messages) for messages in Workload(5, 12, (40, 30), 4, True, seed).conversations]

    assert prompts(1) == prompts(1)
    assert len({*prompts(1), *prompts(2)}) == 10
    [message] = Workload(1, 12, None, 4, True, 0).warm_up
    assert len(message["content"].split()) == 12


def test_image_sizes() -> None:
    assert parse_image_size("0") is None
    assert parse_image_size("336x224") == (336, 224)
    for text in ("336", "0x5", "ax5", "-1x5", ""):
        with pytest.raises(ConfigError, match="--image-size"):
            parse_image_size(text)
