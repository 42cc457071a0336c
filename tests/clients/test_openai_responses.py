"""The `openai` package: responses."""

import openai
import pytest
from tests.clients.answers import GREETING, MODEL, QUESTION, TOO_LONG, WEATHER, Weather, is_answer


@pytest.fixture
def client() -> openai.OpenAI:
    return openai.OpenAI(max_retries=0)


def ask(url: str) -> list:
    parts = [{"type": "input_text", "text": QUESTION}, {"type": "input_image", "image_url": url}]
    return [{"role": "user", "content": parts}]


def test_text(client):
    first = client.responses.create(model=MODEL, input=GREETING)
    assert first.output_text.strip()
    assert client.responses.create(model=MODEL, input=GREETING, previous_response_id=first.id).output_text


def test_image(client, picture_url):
    assert is_answer(client.responses.create(model=MODEL, input=ask(picture_url)).output_text)


def test_stream(client, picture_url):
    with client.responses.stream(model=MODEL, input=ask(picture_url)) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert is_answer(stream.get_final_response().output_text)
    assert is_answer("".join(deltas))


def test_structured(client):
    answer = client.responses.parse(model=MODEL, input=GREETING, text_format=Weather, max_output_tokens=200)
    assert isinstance(answer.output_parsed, Weather)


def test_tools(client):
    tool = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
    answer = client.responses.create(
        model=MODEL, input=GREETING, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    [call] = [item for item in answer.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    followed = client.responses.create(model=MODEL, input=[result], previous_response_id=answer.id)
    assert followed.status == "completed"


def test_too_long(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input=TOO_LONG)
    assert refused.value.code == "context_length_exceeded"
