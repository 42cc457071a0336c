import math
from typing import Any

import pytest
from transformers import GenerationConfig

from aphrodite.domain.errors import CheckpointError, RequestError, SamplingParamsError
from aphrodite.domain.prompting.sampling_params import SamplingParams


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("n", [1, 8]),
        ("temperature", [0, 0.0, 1, 1.5, 100.0]),
        ("top_p", [0, 0.0, 0.001, 0.5, 1, 1.0]),
        ("top_k", [-1, 0, 1, 50]),
        ("min_p", [0, 0.1, 1.0]),
        ("presence_penalty", [-2, 0, 2.0]),
        ("frequency_penalty", [-2.0, 0, 2]),
        ("repetition_penalty", [0.01, 1, 1.3]),
        ("seed", [None, 0, -(2**63), 2**64 - 1]),
        ("stop", [(), "x", ["a", "b"], ("a",), "é"]),
        ("stop_token_ids", [(), [0, 5], (7,)]),
        ("include_stop_str_in_output", [True, False]),
        ("ignore_eos", [True, False]),
        ("max_tokens", [None, 1, 10**6]),
        ("min_tokens", [0, 256]),
        ("logprobs", [None, 0, 20]),
        ("prompt_logprobs", [None, 0, 20]),
        ("logit_bias", [{}, {5: -100, 6: 100.0}]),
        ("allowed_token_ids", [None, [1], (1, 2)]),
        ("skip_special_tokens", [True, False]),
        ("detokenize", [True, False]),
    ],
)
def test_values_within_the_range_are_taken(field: str, values: list[Any]) -> None:
    for value in values:
        SamplingParams(**{field: value})


@pytest.mark.parametrize(
    ("field", "values", "range_text"),
    [
        ("n", [0, -1, 1.0, "1", True, None], "an integer from 1 to 128"),
        ("temperature", [-0.1, math.nan, math.inf, "hot", True, None], "at least 0"),
        ("top_p", [-0.5, 1.01, math.nan, "1", None], "at least 0 and at most 1"),
        ("top_k", [-2, 1.5, "5", None, True], "an integer of at least -1"),
        ("min_p", [-0.1, 1.1, math.nan, None], "at least 0 and at most 1"),
        ("presence_penalty", [-2.1, 2.1, math.nan, None], "at least -2 and at most 2"),
        ("frequency_penalty", [-2.1, 2.1, math.inf, None], "at least -2 and at most 2"),
        ("repetition_penalty", [0, -1, math.nan, math.inf, None], "above 0"),
        ("seed", [1.0, "1", True, 2**64, -(2**63) - 1], "an integer from"),
        ("stop", [5, [""], "", [5], None, {"a": 1}], "a string or a list of strings"),
        ("stop_token_ids", [5, "5", {5: 1}], "a list of token ids"),
        ("stop_token_ids", [[-1], ["5"], [1.0], [True]], "an integer of at least 0"),
        ("include_stop_str_in_output", [1, None, "yes"], "True or False"),
        ("ignore_eos", [1, None, "yes"], "True or False"),
        ("max_tokens", [0, -1, 1.0, "5", True], "an integer of at least 1"),
        ("min_tokens", [-1, 1.0, None, True], "an integer of at least 0"),
        ("min_tokens", [257], r"at most max_tokens \(256\)"),
        ("logprobs", [-1, 21, 1.0, True], "an integer from 0 to 20"),
        ("prompt_logprobs", [-1, 21, 1.0, True], "an integer from 0 to 20"),
        ("logit_bias", [[1], "x", None], "must map token ids to numbers"),
        ("logit_bias", [{5: 101}, {5: -101.0}, {5: math.nan}, {5: "x"}], "at least -100 and at most 100"),
        ("logit_bias", [{-1: 1}, {"5": 1}, {1.0: 1}], "an integer of at least 0"),
        ("allowed_token_ids", [[]], "at least one token id"),
        ("allowed_token_ids", [5, "5"], "a list of token ids"),
        ("skip_special_tokens", [1, None], "True or False"),
        ("detokenize", [0, None], "True or False"),
    ],
)
def test_values_out_of_range_are_refused_with_field_and_range(field: str, values: list[Any], range_text: str) -> None:
    for value in values:
        with pytest.raises(SamplingParamsError, match=f"{field}.*{range_text}") as caught:
            SamplingParams(**{field: value})
        assert isinstance(caught.value, RequestError)


def test_stop_strings_need_text() -> None:
    with pytest.raises(SamplingParamsError, match="stop needs text"):
        SamplingParams(stop="x", detokenize=False)


def test_an_unknown_parameter_is_named() -> None:
    unknown: Any = {"best_of": 2}
    with pytest.raises(TypeError, match="best_of"):
        SamplingParams(**unknown)


def test_lists_are_taken_over_and_no_longer_shared() -> None:
    ids, bias = [1, 2], {1: 2.0}
    params = SamplingParams(stop_token_ids=ids, allowed_token_ids=ids, stop=["a"], logit_bias=bias)
    ids.append(3)
    bias[9] = 1.0
    assert (params.stop_token_ids, params.allowed_token_ids, params.stop) == ((1, 2), (1, 2), ("a",))
    assert params.logit_bias == {1: 2.0}


@pytest.mark.parametrize("field", ["stop_token_ids", "allowed_token_ids", "logit_bias"])
def test_token_ids_beyond_the_vocabulary_are_refused(field: str) -> None:
    value: Any = {10: 1.0} if field == "logit_bias" else [3, 10]
    params = SamplingParams(**{field: value})
    params.check_vocabulary(11)
    with pytest.raises(SamplingParamsError, match=f"{field} holds 10, the vocabulary has 10"):
        params.check_vocabulary(10)


def test_the_models_own_defaults() -> None:
    config: Any = GenerationConfig
    sampled = config(do_sample=True, temperature=0.6, top_p=0.9, top_k=50, max_new_tokens=99)
    params = SamplingParams.from_generation_config(sampled.to_dict())
    assert (params.temperature, params.top_p, params.top_k, params.max_tokens) == (0.6, 0.9, 50, 99)
    greedy = SamplingParams.from_generation_config(config(repetition_penalty=1.1).to_dict())
    assert greedy.greedy
    assert greedy.repetition_penalty == 1.1
    assert SamplingParams.from_generation_config({}).greedy


def test_what_a_sampler_needs_to_know() -> None:
    assert SamplingParams(temperature=0).greedy
    assert not SamplingParams().greedy
    penalties: list[dict[str, Any]] = [
        {"presence_penalty": 1.0},
        {"frequency_penalty": -1.0},
        {"repetition_penalty": 1.1},
    ]
    for penalty in penalties:
        assert SamplingParams(**penalty).has_penalties
    assert not SamplingParams().has_penalties
    assert SamplingParams(logit_bias={1: 1.0}).has_bias
    assert SamplingParams(allowed_token_ids=[1]).has_bias
    assert not SamplingParams().has_bias


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 129), ("n", 10**9), ("stop", ["x"] * 65), ("stop_token_ids", None)],
)
def test_values_that_would_cost_too_much_or_make_no_sense(field: str, value: Any) -> None:
    with pytest.raises(SamplingParamsError, match=field):
        SamplingParams(**{field: value})


def test_a_long_value_makes_a_short_sentence() -> None:
    with pytest.raises(SamplingParamsError) as caught:
        SamplingParams(stop=["", "x" * 10**6])
    assert len(str(caught.value)) < 300


def test_a_wrong_generation_config_is_named() -> None:
    assert SamplingParams.from_generation_config({"do_sample": True, "top_p": 0}).top_p == 0
    with pytest.raises(CheckpointError, match=r"generation_config\.json is wrong: top_p must be"):
        SamplingParams.from_generation_config({"do_sample": True, "top_p": 1.5})
