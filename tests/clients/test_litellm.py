"""LiteLLM's SDK, as an OpenAI-compatible server's user calls it."""

import json

import litellm
import pytest
from tests.clients.answers import GREETING, QUESTION, TOO_LONG, WEATHER, Weather, is_answer
from tests.clients.conftest import KEY

MODEL = "hosted_vllm/demo"
HELLO = [{"role": "user", "content": GREETING}]


@pytest.fixture
def where(url: str) -> dict:
    return {"model": MODEL, "api_base": f"{url}/v1", "api_key": KEY, "num_retries": 0}


def ask(url: str) -> list:
    parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": parts}]


def test_text(where):
    assert litellm.completion(messages=HELLO, **where).choices[0].message.content.strip()


def test_image(where, picture_url):
    assert is_answer(litellm.completion(messages=ask(picture_url), **where).choices[0].message.content)


def test_stream(where, picture_url):
    chunks = litellm.completion(messages=ask(picture_url), stream=True, **where)
    assert is_answer("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def test_structured(where):
    answer = litellm.completion(messages=HELLO, response_format=Weather, max_tokens=200, **where)
    Weather.model_validate_json(answer.choices[0].message.content)


def test_tools(where):
    tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
    answer = litellm.completion(
        messages=HELLO, tools=[tool], tool_choice="required", parallel_tool_calls=False, **where
    )
    [call] = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai"])
def test_too_long(where, provider):
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(messages=[{"role": "user", "content": TOO_LONG}], **where | {"model": f"{provider}/demo"})
