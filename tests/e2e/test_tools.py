"""Tools and thoughts, with the real `openai` client against a real server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.conftest import MODEL
from tests.e2e.server_process import SMALL, ServerProcess, running

# The demo-sized model says what it likes: so the template asks for the answer that a test wants to be read.
TEMPLATE = (
    "{% for tool in tools or [] %}[{{ tool.function.name }}]{% endfor %}<tool_call></tool_call>"
    "{% for message in messages %}{{ message.role }}: {{ message.content }}{{ message.tool_calls or '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
]
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def tool_server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("tools") / "log"
    args = ("--chat-template", TEMPLATE + "{# </think> #}", "--served-model-name", MODEL)
    with running(log, str(checkpoint), *SMALL, *args) as process:
        yield process


@pytest.fixture(scope="module")
def tool_client(tool_server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="EMPTY", base_url=f"{tool_server.url}/v1", max_retries=0, timeout=60) as made:
        yield made


def answer(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(
        **({"model": MODEL, "messages": HELLO, "max_tokens": 12, "temperature": 0} | fields)
    )


def test_the_template_is_told_of_tools_unless_none_may_be_called(tool_client: openai.OpenAI) -> None:
    plain = answer(tool_client).usage.prompt_tokens
    assert answer(tool_client, tools=TOOLS).usage.prompt_tokens > plain
    assert answer(tool_client, tools=TOOLS, tool_choice="none").usage.prompt_tokens == plain


def test_an_answer_without_calls_is_content(tool_client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": "auto"}
    choice = answer(tool_client, **fields).choices[0]
    assert choice.message.content
    assert choice.message.tool_calls is None
    pieces = [chunk.choices[0].delta.content or "" for chunk in answer(tool_client, stream=True, **fields)]
    assert "".join(pieces) == choice.message.content


def test_what_is_said_behind_an_open_tag_is_a_thought(tool_client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}
    message = answer(tool_client, **fields).choices[0].message
    assert message.content is None
    assert message.model_extra["reasoning_content"] == message.model_extra["reasoning"] != ""
    deltas = [chunk.choices[0].delta for chunk in answer(tool_client, stream=True, **fields)]
    thoughts = [delta.model_extra.get("reasoning_content") or "" for delta in deltas]
    assert "".join(thoughts) == message.model_extra["reasoning_content"]
    assert "".join(delta.content or "" for delta in deltas) == ""


@pytest.mark.parametrize("thinks", [True, False])
def test_thoughts_are_counted(tool_client: openai.OpenAI, thinks: bool) -> None:
    fields: dict[str, Any] = {"extra_body": {"chat_template_kwargs": {"enable_thinking": thinks}}, "n": 2}
    whole = answer(tool_client, **fields).usage
    assert whole.completion_tokens_details.reasoning_tokens == (whole.completion_tokens if thinks else 0)
    *_, last = answer(tool_client, stream=True, stream_options={"include_usage": True}, **fields)
    assert last.usage == whole
    effort = {"effort": "high" if thinks else "none"}
    response = tool_client.responses.create(model=MODEL, input="Hello", max_output_tokens=8, reasoning=effort)
    assert response.usage.output_tokens_details.reasoning_tokens == (response.usage.output_tokens if thinks else 0)


def test_former_calls_and_their_results_are_read(tool_client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "Rain."}]},
    ]
    assert answer(tool_client, messages=messages, tools=TOOLS).choices[0].message.content


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"} | parameters}}


@pytest.mark.parametrize(
    ("fields", "part", "param"),
    [
        ({"tool_choice": "required"}, "there are no tools", "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "time"}}},
            "none of the tools",
            "tool_choice",
        ),
        ({"tools": TOOLS * 2}, "Two tools are called weather", "tools"),
        (
            {"tools": [*TOOLS, tool("f", properties={"x": {"type": "foo"}})], "tool_choice": "required"},
            "cannot be followed at #/properties/x/type",
            "tools[1].function.parameters",
        ),
        (
            {"tools": [tool("f", properties={"x": {"type": "string", "pattern": "("}})], "tool_choice": "required"},
            "cannot be followed",
            "tools",
        ),
    ],
)
def test_tools_that_cannot_be_called(tool_client: openai.OpenAI, fields: dict[str, Any], part: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError, match=part) as refused:
        answer(tool_client, **fields)
    assert refused.value.param == param
    assert "structured_outputs" not in str(refused.value)


def test_tools_that_the_model_does_not_hear_of_are_named(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": HELLO, "tools": TOOLS, "max_tokens": 1}
    raw = client.chat.completions.with_raw_response.create(**fields)
    assert raw.headers["x-aphrodite-ignored"] == "tools"


def test_strict_is_named_where_it_is_not_followed(tool_client: openai.OpenAI) -> None:
    strict = {"type": "function", "function": TOOLS[0]["function"] | {"strict": True}}
    fields: dict[str, Any] = {"model": MODEL, "messages": HELLO, "tools": [strict], "max_tokens": 1}
    raw = tool_client.chat.completions.with_raw_response.create(**fields)
    assert raw.headers["x-aphrodite-ignored"] == "strict"
    forced = tool_client.chat.completions.with_raw_response.create(**fields, tool_choice="required")
    assert "x-aphrodite-ignored" not in forced.headers


def test_tools_that_a_form_leaves_no_room_for_are_named(tool_client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": HELLO, "tools": TOOLS, "max_tokens": 1}
    raw = tool_client.chat.completions.with_raw_response.create(**fields, extra_body={"guided_choice": ["a", "b"]})
    assert raw.headers["x-aphrodite-ignored"] == "tools"


def test_a_begun_answer_is_continued(tool_client: openai.OpenAI) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "Well"}]
    continued = answer(tool_client, messages=messages, extra_body={"continue_final_message": True})
    ended = answer(tool_client, messages=messages)
    assert continued.usage.prompt_tokens < ended.usage.prompt_tokens


PLACES: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "$defs": {"City": {"enum": ["Paris", "Rome"]}},
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/City"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_be_made_is_made(tool_client: openai.OpenAI, choice: Any) -> None:
    fields: dict[str, Any] = {"tools": PLACES, "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 200}
    fields |= {"n": 2, "temperature": 1.0, "seed": 3}
    for whole in answer(tool_client, **fields).choices:
        [call] = whole.message.tool_calls
        assert whole.finish_reason == "tool_calls"
        assert whole.message.content is None
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    deltas = [chunk.choices[0].delta for chunk in answer(tool_client, stream=True, **(fields | {"n": 1}))]
    first, *others = [call for delta in deltas for call in delta.tool_calls or ()]
    assert (first.index, first.type, first.function.name, first.id[:5]) == (0, "function", "weather", "call_")
    assert all(call.id is None and call.function.name is None for call in others)
    assert json.loads("".join(call.function.arguments for call in (first, *others)))["city"] in ("Paris", "Rome")


def test_a_forced_call_has_only_the_arguments_that_are_listed(tool_client: openai.OpenAI) -> None:
    # As LiteLLM's hosted_vllm sends a closed schema: without additionalProperties.
    schema = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris"]}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        fields = {"tools": tools, "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 100}
        for whole in answer(tool_client, **fields, n=4, temperature=2.0, seed=5).choices:
            assert json.loads(whole.message.tool_calls[0].function.arguments) == {"city": "Paris"}


@pytest.mark.parametrize("parallel", [True, False])
def test_an_answer_has_its_form_or_is_calls(tool_client: openai.OpenAI, parallel: bool) -> None:
    colour = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
    schema = colour | {"additionalProperties": False}
    fields: dict[str, Any] = {
        "tools": PLACES,
        "parallel_tool_calls": parallel,
        "response_format": {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema}},
    }
    whole = answer(tool_client, **fields, n=16, temperature=2.0, seed=1, max_tokens=300).choices
    ended = [choice for choice in whole if choice.finish_reason != "length"]
    called = [choice.message.tool_calls for choice in ended if choice.finish_reason == "tool_calls"]
    said = [choice.message.content for choice in ended if choice.finish_reason == "stop"]
    assert called
    assert said
    for calls in called:
        assert all(json.loads(call.function.arguments)["city"] in ("Paris", "Rome") for call in calls)
        assert parallel or len(calls) == 1
    assert all(json.loads(content)["colour"] in ("red", "blue") for content in said)
    raw = tool_client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=1, **fields)
    assert "x-aphrodite-ignored" not in raw.headers


def test_a_schema_of_tools_beside_a_form_is_checked(tool_client: openai.OpenAI) -> None:
    wrong = [tool("f", properties={"x": {"not": {}}})]
    for form, param in (
        ({"type": "json_object"}, "tools[0].function.parameters"),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "foo"}}},
            "response_format.json_schema.schema",
        ),
    ):
        tools = wrong if form["type"] == "json_object" else TOOLS
        with pytest.raises(openai.BadRequestError, match="cannot be followed at #/") as refused:
            answer(tool_client, tools=tools, response_format=form)
        assert refused.value.param == param
