"""Haystack's OpenAIChatGenerator."""

import pytest
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, ImageContent
from haystack.tools import Tool
from tests.clients.answers import GREETING, MODEL, QUESTION, WEATHER, Weather, is_answer


@pytest.fixture
def generator(url):
    return OpenAIChatGenerator(model=MODEL, api_base_url=f"{url}/v1", max_retries=0)


def ask(picture: str) -> list:
    parts = [QUESTION, ImageContent(base64_image=picture, mime_type="image/png")]
    return [ChatMessage.from_user(content_parts=parts)]


def test_text(generator):
    assert generator.run([ChatMessage.from_user(GREETING)])["replies"][0].text.strip()


def test_image(generator, picture):
    assert is_answer(generator.run(ask(picture))["replies"][0].text)


def test_stream(generator, picture):
    pieces = []
    generator.run(ask(picture), streaming_callback=lambda chunk: pieces.append(chunk.content))
    assert is_answer("".join(pieces))


def test_structured(generator):
    answer = generator.run([ChatMessage.from_user(GREETING)], generation_kwargs={"response_format": Weather})
    Weather.model_validate_json(answer["replies"][0].text)


def test_tools(generator):
    tool = Tool(name="weather", description="The weather.", parameters=WEATHER, function=lambda city: city)
    answer = generator.run(
        [ChatMessage.from_user(GREETING)],
        tools=[tool],
        generation_kwargs={"tool_choice": "required", "parallel_tool_calls": False},
    )
    [call] = answer["replies"][0].tool_calls
    assert call.tool_name == "weather"
    assert tool.invoke(**call.arguments) in ("Paris", "Rome")
