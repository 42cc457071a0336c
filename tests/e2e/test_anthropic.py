"""Anthropic's API with the real `anthropic` client."""

import base64
from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import openai
import pytest
from pydantic import BaseModel
from tests.e2e.conftest import MODEL, picture
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_chat import ask, data_url

HELLO = {"role": "user", "content": "Hello there"}


@pytest.fixture(scope="module")
def claude(server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="EMPTY", base_url=server.url, max_retries=0, timeout=60) as made:
        yield made


def create(claude: anthropic.Anthropic, messages: Any, **fields: Any) -> Any:
    fields = {"max_tokens": 8, "extra_body": {"temperature": 0}} | fields
    return claude.messages.create(model=MODEL, messages=messages, **fields)


def chat_text(client: openai.OpenAI, messages: Any, **fields: Any) -> str:
    fields = {"max_tokens": 8, "temperature": 0} | fields
    answer = client.chat.completions.create(model=MODEL, messages=messages, **fields)
    return str(answer.choices[0].message.content)


def test_a_text_is_what_chat_says(claude: anthropic.Anthropic, client: openai.OpenAI) -> None:
    system = {"role": "system", "content": "Be brief."}
    expected = chat_text(client, [system, HELLO])
    message = create(claude, [HELLO], system="Be brief.")
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": expected}]
    assert (message.role, message.model, message.stop_reason) == ("assistant", MODEL, "max_tokens")
    assert message.usage.output_tokens == 8
    blocks: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    said: Any = [{"role": "user", "content": [{"type": "text", "text": "Hello there"}]}]
    assert create(claude, said, system=blocks).content[0].text == expected


def test_pictures_and_former_answers(claude: anthropic.Anthropic, client: openai.OpenAI, images: str) -> None:
    red = picture("rgb", (200, 10, 10))
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(red).decode()}
    for given in (source, {"type": "url", "url": f"{images}/red"}):
        content = [{"type": "image", "source": given}, {"type": "text", "text": "What is this?"}]
        said = [{"role": "assistant", "content": "Red."}, {"role": "user", "content": "Sure?"}]
        expected = chat_text(client, [*ask("What is this?", data_url(red)), *said])
        assert create(claude, [{"role": "user", "content": content}, *said]).content[0].text == expected


def test_a_stream_has_the_reference_s_events_in_order(claude: anthropic.Anthropic) -> None:
    whole = create(claude, [HELLO])
    events = list(create(claude, [HELLO], stream=True))
    deltas = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert [event.type for event in events] == [
        "message_start", *["ping"] * sum(event.type == "ping" for event in events), "content_block_start",
        *["content_block_delta"] * len(deltas), "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert "".join(deltas) == whole.content[0].text
    with claude.messages.stream(model=MODEL, messages=[HELLO], max_tokens=8, extra_body={"temperature": 0}) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 8)
    total = final.usage.input_tokens + final.usage.cache_read_input_tokens
    assert total == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def test_stop_sequences(claude: anthropic.Anthropic) -> None:
    whole = create(claude, [HELLO], max_tokens=40).content[0].text
    stop = whole[5:8]
    message = create(claude, [HELLO], max_tokens=40, stop_sequences=[stop])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert message.content[0].text == whole[: whole.index(stop)]


def test_an_answer_that_is_begun_is_continued(claude: anthropic.Anthropic, client: openai.OpenAI) -> None:
    begun = [HELLO, {"role": "assistant", "content": "Well,"}]
    more = {"add_generation_prompt": False, "continue_final_message": True}
    assert create(claude, begun).content[0].text == chat_text(client, begun, extra_body=more)


def test_an_answer_keeps_to_a_schema(claude: anthropic.Anthropic) -> None:
    class City(BaseModel):
        city: Literal["Paris", "Rome"]

    answer = claude.messages.parse(model=MODEL, messages=[HELLO], max_tokens=60, output_format=City)
    assert isinstance(answer.parsed_output, City)
    wrong: Any = {"format": {"type": "json_schema", "schema": {"type": "nothing"}}}
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format\.schema"):
        create(claude, [HELLO], output_config=wrong)


def test_tokens_are_counted(claude: anthropic.Anthropic) -> None:
    usage = create(claude, [HELLO], system="Be brief.").usage
    counted = claude.messages.count_tokens(model=MODEL, messages=[HELLO], system="Be brief.")
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_errors_have_anthropics_form(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as raised:
        claude.messages.create(model="claude-9", messages=[HELLO], max_tokens=1)
    assert raised.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        create(claude, [{"role": "user", "content": "0 " * 5000}])
    with pytest.raises(anthropic.BadRequestError, match="tool_result block belongs") as raised:
        create(claude, [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "x"}]}])
    assert raised.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.BadRequestError, match="mcp_servers is not supported"):
        create(claude, [HELLO], extra_body={"mcp_servers": [{"type": "url"}]})
