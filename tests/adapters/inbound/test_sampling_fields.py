"""What requests of each API may say of sampling, as the one table has it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from aphrodite.adapters.inbound.http.kobold.protocol import KoboldRequest
from aphrodite.adapters.inbound.http.kobold.sampling import kobold_sampling
from aphrodite.adapters.inbound.http.ollama.protocol import OllamaChatRequest
from aphrodite.adapters.inbound.http.ollama.question import to_chat_question
from aphrodite.adapters.inbound.http.openai.requests import CompletionRequest
from aphrodite.adapters.inbound.http.openai.sampling import completion_sampling
from aphrodite.adapters.inbound.http.sampling_fields import KOBOLD, OLLAMA, OPENAI
from aphrodite.domain.errors import SamplingParamsError
from aphrodite.domain.prompting.parameter import Parameter
from aphrodite.domain.prompting.sampling_params import SamplingParams


def openai(**fields: Any) -> SamplingParams:
    asked = msgspec.convert({"model": "m", "prompt": "x", "max_tokens": 64} | fields, CompletionRequest)
    return completion_sampling(asked, SamplingParams())


def kobold(**fields: Any) -> SamplingParams:
    return kobold_sampling(msgspec.convert({"prompt": "x"} | fields, KoboldRequest), SamplingParams(), ())


def ollama(**options: Any) -> SamplingParams:
    messages = [{"role": "user", "content": "x"}]
    asked = msgspec.convert({"model": "m", "messages": messages, "options": options}, OllamaChatRequest)
    question = to_chat_question(asked, SamplingParams())
    assert question is not None
    return question.sampling


APIS = [(openai, OPENAI), (kobold, KOBOLD), (ollama, OLLAMA)]


def value_of(parameter: Parameter) -> Any:
    """One within the range, and not the default."""
    if parameter.type is bool:
        return not parameter.default
    if parameter.name == "mirostat_mode":
        return 2
    low = parameter.low if parameter.above is None else parameter.above
    assert low is not None
    values = (low + 1, low + 0.5 if parameter.type is float else low + 2)
    return next(
        parameter.type(value) for value in values if value != parameter.default and value <= (parameter.high or value)
    )


@pytest.mark.parametrize(("ask", "table"), APIS, ids=["openai", "kobold", "ollama"])
def test_every_parameter_arrives_and_null_is_the_default(ask: Any, table: Mapping[str, Parameter]) -> None:
    for name, parameter in table.items():
        value = value_of(parameter)
        others = {"dynatemp_max": 3.0} if name == "dynatemp_min" else {}
        assert getattr(ask(**{name: value}, **others), parameter.name) == value, name
        assert getattr(ask(**{name: None}), parameter.name) == parameter.default, name


@pytest.mark.parametrize(("ask", "table"), APIS, ids=["openai", "kobold", "ollama"])
def test_a_value_out_of_range_is_refused_as_it_is_offline(ask: Any, table: Mapping[str, Parameter]) -> None:
    for name, parameter in table.items():
        wrong: list[Any] = ["x", [1]]
        wrong += [bound - 1 for bound in (parameter.low, parameter.above) if bound is not None]
        wrong += [parameter.high + 1] if parameter.high is not None else []
        wrong += [parameter.above] if parameter.above is not None else []
        for value in wrong:
            with pytest.raises(msgspec.ValidationError, match=name):
                ask(**{name: value})
            with pytest.raises(SamplingParamsError, match=parameter.name):
                SamplingParams(**{parameter.name: value})


def test_an_order_of_samplers() -> None:
    given: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "top_a": 0.1}
    assert openai(**given, sampler_priority=["top_p", 1]).stages == ("top_p", "top_a", "temperature")
    assert kobold(**given, sampler_order=[6, 0, 1, 3, 4, 2, 5]).stages == ("top_a", "top_p", "temperature")
    assert kobold(**given, sampler_order=[]).stages == ("temperature", "top_p", "top_a")
    for wrong in ([7], [-1], ["top_p"], 5):
        with pytest.raises(msgspec.ValidationError, match="sampler_order"):
            kobold(sampler_order=wrong)


def test_a_range_of_temperatures() -> None:
    params = kobold(temperature=0.7, dynatemp_range=0.25, dynatemp_exponent=2)
    assert (params.dynatemp_min, params.dynatemp_max, params.dynatemp_exponent) == (pytest.approx(0.45), 0.95, 2)
    assert kobold(temperature=0.7, dynatemp_range=5).dynatemp_min == 0
    assert kobold(dynatemp_range=0).stages == ()


def test_what_is_not_to_be_said() -> None:
    params = openai(bad_words=["x y"], custom_token_bans=[3], dry_multiplier=0.8, dry_sequence_breakers=["\n", 5])
    assert (params.bad_words, params.custom_token_bans) == (("x y",), (3,))
    assert (params.dry_multiplier, params.dry_sequence_breakers) == (0.8, ("\n", 5))
    params = kobold(banned_tokens=["x", "", " "], dry_penalty_last_n=300, dry_sequence_breakers=["\n", ""])
    assert (params.bad_words, params.dry_range, params.dry_sequence_breakers) == (("x",), 300, ("\n",))
    assert kobold(dry_penalty_last_n=-1).dry_range == 0


def test_what_silly_tavern_sends_when_nothing_is_chosen_is_nothing() -> None:
    params = kobold(
        rep_pen=1, temperature=1, tfs=1, top_a=0, top_k=0, top_p=1, min_p=0, typical=1, nsigma=0, dynatemp_range=0,
        dynatemp_exponent=1, smoothing_factor=0, xtc_probability=0, xtc_threshold=0.1, dry_multiplier=0, dry_base=1.75,
        dry_allowed_length=2, dry_penalty_last_n=0, dry_sequence_breakers=["\n", ":"], banned_tokens=[],
        sampler_order=[6, 0, 1, 3, 4, 2, 5], mirostat=0, mirostat_tau=5, mirostat_eta=0.1,
    )  # fmt: skip
    assert params.stages == ()
    assert not params.has_history
    assert not params.has_bias
