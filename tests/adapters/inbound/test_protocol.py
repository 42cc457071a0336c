"""Requests as the `openai` package's own types describe them, and what is refused, by name."""

from typing import Any, get_type_hints

import msgspec
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion import Completion
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.openai import objects
from aphrodite.adapters.inbound.http.openai.parsing import _IGNORED, _UNSUPPORTED, parse_body
from aphrodite.adapters.inbound.http.openai.requests import ChatCompletionRequest, CompletionRequest

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def parse(**fields: Any) -> ChatCompletionRequest:
    return parse_body(msgspec.json.encode(CHAT | fields), ChatCompletionRequest)[0]


def ignored(**fields: Any) -> list[str]:
    return parse_body(msgspec.json.encode(CHAT | fields), ChatCompletionRequest)[1]


def test_every_field_of_the_reference_is_known() -> None:
    """No field that the client library offers is passed over as unknown."""
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams

    for params, kind in ((ChatParams, ChatCompletionRequest), (CompletionParams, CompletionRequest)):
        known = set(kind.__struct_fields__) | set(_UNSUPPORTED) | _IGNORED
        assert set(get_type_hints(params)) - known - {"stream"} == set()


def test_null_is_as_good_as_nothing() -> None:
    optional = {name: None for name in ChatCompletionRequest.__struct_fields__ if name not in CHAT}
    assert parse(**optional, frobnicate=None) == parse()


@pytest.mark.parametrize("name", sorted(_UNSUPPORTED.keys() - set(ChatCompletionRequest.__struct_fields__)))
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{name} is not supported yet") as raised:
        parse(**{name: {"something": "else"}})
    assert raised.value.param == name
    for neutral in _UNSUPPORTED[name]:
        parse(**{name: neutral})


def test_unknown_fields_are_ignored_and_named() -> None:
    assert parse(frobnicate="a secret") == parse()
    assert ignored(frobnicate="a secret", top_kk=3) == ["frobnicate", "top_kk"]
    assert ignored(**{f"{index:02}" + "x" * 100: 1 for index in range(50)}) == [
        f"{index:02}" + "x" * 62 for index in range(20)
    ]


def test_unknown_fields_of_messages_and_parts_are_named_too() -> None:
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [part], "weight": 1}, {"role": "assistant", "content": "", "thinking": "x"}]
    assert ignored(messages=messages) == ["messages[].content[].cache_control", "messages[].weight"]


def test_what_templates_read_of_an_answer_is_kept() -> None:
    fields = {
        "tool_calls": [{"id": "1"}], "function_call": {"name": "f"}, "refusal": "no", "reasoning_content": "a",
        "reasoning": "b", "thinking": "c", "tool_plan": "d", "name": "e",
    }  # fmt: skip
    [message] = parse(messages=[{"role": "assistant", "content": "x", **fields}]).messages
    assert msgspec.to_builtins(message) == {"role": "assistant", "content": "x", **fields}


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"n": "x"}, "n", "n must be an integer or null, got a string."),
        ({"temperature": -1}, "temperature", "temperature must be a number of at least 0.0."),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "messages[0].role is missing."),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "messages[0].content is missing."),
        ({"messages": []}, "messages", "messages must be a list of length of at least 1."),
        ({"logit_bias": {"x": 1}}, "logit_bias", "Each key of logit_bias must be an integer, got a string."),
        ({"stream": "yes"}, "stream", "stream must be true or false or null, got a string."),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str, sentence: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse(**fields)
    assert str(raised.value) == sentence
    assert raised.value.param == param


def test_answers_are_what_the_client_library_reads() -> None:
    usage = objects.Usage(3, 2, 5, objects.PromptTokensDetails(1, 0))
    logprobs = objects.ChatLogprobs([objects.TokenLogprob("a", -0.5, [97], [objects.TopLogprob("a", -0.5, [97])])])
    head: dict[str, Any] = {"id": "x", "created": 1, "model": "m"}
    choice = objects.ChatChoice(0, objects.ResponseMessage("a"), logprobs, "stop", None)
    chunk = objects.ChatChunkChoice(0, objects.Delta(content="a"), logprobs)
    text = objects.CompletionChoice(0, "a", objects.CompletionLogprobs(["a"], [-0.5], [{"a": -0.5}], [0]), "length")
    answers = (
        (ChatCompletion, objects.ChatCompletion(**head, choices=[choice], usage=usage)),
        (ChatCompletionChunk, objects.ChatCompletionChunk(**head, choices=[chunk])),
        (Completion, objects.Completion(**head, choices=[text], usage=usage)),
    )
    for theirs, ours in answers:
        read = theirs.model_validate_json(msgspec.json.encode(ours), strict=True)
        assert read.model_dump(exclude_unset=True) == msgspec.to_builtins(ours)
