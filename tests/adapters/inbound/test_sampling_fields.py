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
    for value in (parameter.high, parameter.low, 2 if parameter.above is None else parameter.above + 2):
        if value is not None and value != parameter.default and abs(value) < 2**63:
            return parameter.type(value)
    raise AssertionError(parameter)


@pytest.mark.parametrize(("ask", "table"), APIS, ids=["openai", "kobold", "ollama"])
def test_every_parameter_arrives_and_null_is_the_default(ask: Any, table: Mapping[str, Parameter]) -> None:
    for name, parameter in table.items():
        value = value_of(parameter)
        assert getattr(ask(**{name: value}), parameter.name) == value, name
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
