"""The `ollama` package."""

import json

import ollama
import pytest
from tests.clients.answers import GREETING, MODEL, QUESTION, WEATHER, is_answer
from tests.clients.conftest import KEY


@pytest.fixture
def client(url):
    return ollama.Client(url, headers={"Authorization": f"Bearer {KEY}"})


def ask(picture: str) -> list:
    return [{"role": "user", "content": QUESTION, "images": [picture]}]


def test_text(client):
    assert client.list().models[0].model == MODEL
    assert "vision" in client.show(MODEL).capabilities
    assert client.generate(MODEL, GREETING).response.strip()


def test_image(client, picture):
    assert is_answer(client.chat(MODEL, ask(picture)).message.content)


def test_stream(client, picture):
    pieces = [piece.message.content for piece in client.chat(MODEL, ask(picture), stream=True)]
    assert is_answer("".join(pieces))
    assert len(pieces) > 1


def test_structured(client):
    answer = client.chat(MODEL, [{"role": "user", "content": GREETING}], format=WEATHER)
    assert json.loads(answer.message.content)["city"] in ("Paris", "Rome")


def test_tools(caller_url):
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"Sunny in {city}."

    client = ollama.Client(caller_url, headers={"Authorization": f"Bearer {KEY}"})
    messages = [{"role": "user", "content": GREETING}]
    answer = client.chat(MODEL, messages, tools=[weather]).message
    [call] = answer.tool_calls
    assert weather(**call.function.arguments) == "Sunny in Paris."
    result = {"role": "tool", "tool_name": "weather", "content": "Sunny in Paris."}
    assert client.chat(MODEL, [*messages, answer, result], tools=[weather]).message.content == "It is sunny in Paris."
