"""The `openai` package: chat."""

import openai
import pytest
from tests.clients.answers import GREETING, MODEL, QUESTION, TOO_LONG, WEATHER, Weather, is_answer


@pytest.fixture
def client() -> openai.OpenAI:
    return openai.OpenAI(max_retries=0)


def ask(url: str | None = None) -> list:
    parts = [{"type": "text", "text": QUESTION}]
    if url:
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return [{"role": "user", "content": parts}]


def test_text(client):
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": GREETING}])
    assert answer.choices[0].message.content.strip()


def test_image(client, picture_url):
    assert is_answer(client.chat.completions.create(model=MODEL, messages=ask(picture_url)).choices[0].message.content)


def test_stream(client, picture_url):
    with client.chat.completions.stream(model=MODEL, messages=ask(picture_url)) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
    assert is_answer("".join(deltas))
    assert len(deltas) > 1


def test_structured(client):
    answer = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": GREETING}], response_format=Weather, max_tokens=200
    )
    assert isinstance(answer.choices[0].message.parsed, Weather)


def test_tools(client):
    tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER, "strict": True}}
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": GREETING}],
            tools=[tool],
            tool_choice=choice,
            parallel_tool_calls=False,  # a model so small never ends a list of them
        )
        [call] = answer.choices[0].message.tool_calls
        assert call.function.name == "weather"


def test_too_long(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": TOO_LONG}])
    assert refused.value.code == "context_length_exceeded"
