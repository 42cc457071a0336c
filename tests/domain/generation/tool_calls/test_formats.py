"""Published examples, and what is none."""

import json
import time

import pytest
from tests.domain.generation.tool_calls.test_round_trips import read

from aphrodite.domain.errors import ConfigError
from aphrodite.domain.generation.tool_calls.formats import CALL_FORMATS, find_call_format

PARIS = ("weather", {"city": "Paris"})
TAG = "</tool_call>"


EXAMPLES = [
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}', [PARIS]),  # not closed
    ("hermes", '<tool_call>{"name": "f", "arguments": {"x": "</tool_call>"}}</tool_call>', [("f", {"x": TAG})]),
    ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>', [("f", {"x": 1})]),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"x": "a\nb"}}</tool_call> \n', [("f", {"x": "a\nb"})]),
    ("qwen3_coder", "<function=weather>\n<parameter=city>\nParis\n</parameter>\n</function>", [PARIS]),
    (
        "qwen3_coder",
        "<tool_call>\n<function=weather>\n<parameter=city>\nPa\n\nris\n</parameter>\n</function>\n</tool_call>",
        [("weather", {"city": "Pa\n\nris"})],
    ),
    (
        "qwen3_coder",
        "<tool_call><function=weather><parameter=warm>True</parameter><parameter=days>05</parameter></function>",
        [("weather", {"warm": True, "days": "05"})],
    ),
    ("glm", "<tool_call>weather<arg_key>city</arg_key><arg_value>Paris</arg_value></tool_call>", [PARIS]),
    ("llama3_json", '<|python_tag|>{"name": "weather", "parameters": {"city": "Paris"}}', [PARIS]),
    ("llama3_json", ' {"name": "weather", "parameters": {"city": "Paris"}}', [PARIS]),
    ("mistral", '[TOOL_CALLS]weather[CALL_ID]a1B2c3D4e[ARGS]{"city": "Paris"}', [PARIS]),
    ("mistral", '[TOOL_CALLS]weather{"city": "Paris"}', [PARIS]),
    ("gemma", "```tool_code\nweather(city='Paris')\n```", [PARIS]),
    ("gemma", "```tool_code\nprint(api.weather(city='Paris'))\n```", [("api.weather", {"city": "Paris"})]),
    ("pythonic", "[weather(city='Paris')]", [PARIS]),
    ("pythonic", "<|python_start|>[weather(city='Paris')]<|python_end|>", [PARIS]),
]
NO_CALLS = [
    ("hermes", '<tool_call>{"name": 5}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
    ("hermes", 'So <tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>'),
    ("hermes", " Two red triangles. "),
    ("hermes", " \n"),
    ("glm", "<tool_call>no call at all</tool_call>"),
    ("llama3_json", '{"answer": 42}'),
    ("llama3_json", 'So: {"name": "weather", "parameters": {}}'),
    ("mistral", "[TOOL_CALLS][]"),
    ("gemma", "```tool_code\nimport os\n```"),
    ("internlm", "<|action_start|><|interpreter|>\nprint(1)<|action_end|>"),
    ("pythonic", "[1] is what I read (see [2])."),
    ("pythonic", "[f(x=open('y'))]"),
    ("pythonic", "[f(1)]"),
]


@pytest.mark.parametrize(("name", "text", "calls"), EXAMPLES)
def test_calls_are_found(name: str, text: str, calls: list[tuple[str, object]]) -> None:
    for pieces in ([text], list(text)):
        message = read(name, pieces)
        assert message.content is None
        assert [(call.name, json.loads(call.arguments)) for call in message.tool_calls] == calls


@pytest.mark.parametrize(("name", "text"), NO_CALLS)
def test_what_is_no_call_is_content(name: str, text: str) -> None:
    for pieces in ([text], list(text)):
        message = read(name, pieces)
        assert (message.content, message.tool_calls) == (text, ())


def test_words_around_calls_are_content() -> None:
    text = 'A <tool_call> is: <tool_call>{"name": "f"}</tool_call>\nDone.'
    message = read("hermes", list(text))
    assert message.content == "A <tool_call> is:Done."
    assert [call.name for call in message.tool_calls] == ["f"]


def test_an_id_that_the_model_gives_is_kept() -> None:
    [call] = read("mistral", ["[TOOL_CALLS]f[CALL_ID]a1B2c3D4e[ARGS]{}"]).tool_calls
    assert call.id == "a1B2c3D4e"


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>" * 20_000,
        '<tool_call>{"name": "f", "arguments": {"x": "' + "a" * 200_000,
        "<tool_call>" + " " * 200_000,
        '<tool_call>{"name": "' + "weather" * 30_000,
    ],
)
def test_a_long_text_costs_no_more_than_its_length(text: str) -> None:
    started_s = time.process_time()
    assert read("hermes", [text[start : start + 8] for start in range(0, len(text), 8)]).content == text
    assert time.process_time() - started_s < 20


@pytest.mark.parametrize("name", CALL_FORMATS)
def test_deep_nesting_is_content(name: str) -> None:
    text = '<tool_call>{"name": "f", "arguments": {"x": ' + "[" * 100_000
    assert read(name, [text]).content == text


def test_parsers_have_names() -> None:
    assert find_call_format("none", "<tool_call>") is None
    assert find_call_format(None, "no tools") is None
    assert find_call_format("mistral", "<tool_call>") is CALL_FORMATS["mistral"]
    with pytest.raises(ConfigError, match="--tool-call-parser must be one of hermes"):
        find_call_format("vicuna", "")
