"""Which stages shape a request's distribution, and in which order."""

from typing import Any

import pytest

from aphrodite.domain.errors import SamplingParamsError
from aphrodite.domain.prompting.sampler_order import parse_kobold_order
from aphrodite.domain.prompting.samplers import STAGED, STAGES
from aphrodite.domain.prompting.sampling_params import SamplingParams

EVERY: dict[str, Any] = {
    "temperature": 0.7, "nsigma": 2, "top_k": 5, "top_p": 0.9, "top_a": 0.1, "min_p": 0.1, "tfs": 0.9, "eta_cutoff": 3,
    "epsilon_cutoff": 3, "typical_p": 0.9, "smoothing_factor": 0.2, "xtc_probability": 0.5, "skew": 0.1,
}  # fmt: skip


def test_nothing_asked_for_is_no_stage() -> None:
    assert SamplingParams().stages == ()
    assert SamplingParams(top_k=-1, xtc_threshold=0.3, smoothing_curve=2, dynatemp_exponent=3).stages == ()
    assert SamplingParams(**{parameter.name: parameter.default for parameter in STAGED}).stages == ()


def test_the_usual_order_is_that_of_the_first_aphrodite() -> None:
    expected = [
        "temperature", "nsigma", "top_k", "top_p", "top_a", "min_p", "tfs", "eta_cutoff", "epsilon_cutoff", "typical_p",
        "smoothing", "xtc", "skew",
    ]  # fmt: skip
    assert list(SamplingParams(**EVERY).stages) == expected
    last = list(SamplingParams(**EVERY, temperature_last=True).stages)
    assert last == [*expected[1:-1], "temperature", "skew"]


def test_a_dynamic_temperature_takes_the_place_of_the_fixed_one() -> None:
    dynamic = SamplingParams(**EVERY | {"dynatemp_max": 2.0})
    assert dynamic.stages[0] == "dynatemp"
    assert "temperature" not in dynamic.stages


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        (["top_p", "temperature"], "top_p temperature"),
        (["TOP_P_TOP_K", "TEMPERATURE"], "top_k top_p temperature"),
        ([0, 5, 2], "top_k top_p temperature min_p"),
        (["dry", "penalties", 6, 7, 8, "no_repeat_ngram", "quadratic", "top_n_sigma"], "smoothing nsigma"),
        (["xtc", "dynamic_temperature", "temperature", "xtc"], "xtc temperature"),
        (parse_kobold_order([6, 0, 1, 3, 4, 2, 5]), "top_k top_a tfs typical_p top_p min_p temperature"),
        ([], ""),
    ],
)
def test_an_order_by_any_of_the_names_and_what_it_leaves_out_follows(priority: Any, expected: str) -> None:
    found = SamplingParams(**EVERY, sampler_priority=priority, temperature_last=True).stages
    named = tuple(expected.split())
    assert found == (
        *named,
        *(stage for stage in STAGES if stage in SamplingParams(**EVERY).stages and stage not in named),
    )


@pytest.mark.parametrize("wrong", ["top_k", 5, {"top_k": 1}, ["top_q"], [14], [-1], [None], [True], [["top_k"]]])
def test_what_is_no_order_is_refused(wrong: Any) -> None:
    with pytest.raises(SamplingParamsError, match="sampler_priority"):
        SamplingParams(sampler_priority=wrong)


def test_an_order_is_taken_again_as_it_was_read() -> None:
    once = SamplingParams(sampler_priority=["QUADRATIC", 5])
    assert SamplingParams(sampler_priority=once.sampler_priority) == once


def test_mirostat_is_alone_with_the_temperature() -> None:
    assert SamplingParams(**EVERY, mirostat_mode=2).stages == ("temperature", "mirostat")
    assert SamplingParams(**EVERY, mirostat_mode=2, temperature_last=True).stages == ("temperature", "mirostat")
    assert SamplingParams(mirostat_mode=2, dynatemp_max=2).stages == ("dynatemp", "mirostat")
    assert SamplingParams(mirostat_tau=3, mirostat_eta=1).stages == ()
    with pytest.raises(SamplingParamsError, match="mirostat_mode must be 0 or 2"):
        SamplingParams(mirostat_mode=1)


def test_a_smallest_temperature_above_the_largest_is_refused() -> None:
    with pytest.raises(SamplingParamsError, match=r"dynatemp_min must be at most dynatemp_max \(0\.5\), got 1\."):
        SamplingParams(dynatemp_min=1, dynatemp_max=0.5)
