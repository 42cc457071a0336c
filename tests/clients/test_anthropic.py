"""The `anthropic` package."""

import anthropic
import pytest
from tests.clients.answers import GREETING, MODEL, QUESTION, TOO_LONG, WEATHER, Weather, is_answer
from tests.clients.conftest import KEY


@pytest.fixture
def client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=KEY, base_url=url, max_retries=0)


HELLO = [{"role": "user", "content": GREETING}]


def ask(picture: str) -> list:
    source = {"type": "base64", "media_type": "image/png", "data": picture}
    return [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]}]


def test_text(client):
    assert client.messages.create(model=MODEL, max_tokens=50, messages=HELLO).content[0].text.strip()
    assert client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0


def test_image(client, picture):
    assert is_answer(client.messages.create(model=MODEL, max_tokens=50, messages=ask(picture)).content[0].text)


def test_stream(client, picture):
    with client.messages.stream(model=MODEL, max_tokens=50, messages=ask(picture)) as stream:
        assert is_answer("".join(stream.text_stream))
        assert stream.get_final_message().stop_reason == "end_turn"


def test_structured(client):
    answer = client.messages.parse(model=MODEL, max_tokens=200, messages=HELLO, output_format=Weather)
    assert isinstance(answer.parsed_output, Weather)


def test_tools(client):
    tool = {"name": "weather", "input_schema": WEATHER}
    answer = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=HELLO,
        tools=[tool],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert answer.stop_reason == "tool_use"
    [call] = [block for block in answer.content if block.type == "tool_use"]
    assert call.input["city"] in ("Paris", "Rome")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    more = [*HELLO, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(model=MODEL, max_tokens=50, messages=more, tools=[tool]).content


def test_too_long(client):
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(model=MODEL, max_tokens=50, messages=[{"role": "user", "content": TOO_LONG}])
