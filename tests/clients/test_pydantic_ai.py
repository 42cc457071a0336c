"""Pydantic AI."""

import asyncio
import base64
from typing import Literal

import pytest
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.clients.answers import GREETING, MODEL, QUESTION, Weather, is_answer
from tests.clients.conftest import KEY


@pytest.fixture
def model() -> OpenAIChatModel:
    return OpenAIChatModel(MODEL)


def ask(picture: str) -> list:
    return [QUESTION, BinaryContent(base64.b64decode(picture), media_type="image/png")]


def test_text(model):
    assert Agent(model).run_sync(GREETING).output.strip()


def test_image(model, picture):
    assert is_answer(Agent(model).run_sync(ask(picture)).output)


async def _streamed(model, picture) -> str:
    async with Agent(model).run_stream(ask(picture)) as result:
        return "".join([piece async for piece in result.stream_text(delta=True)])


def test_stream(model, picture):
    assert is_answer(asyncio.run(_streamed(model, picture)))


def test_structured(model):
    assert isinstance(Agent(model, output_type=Weather).run_sync(GREETING).output, Weather)


def test_tools(model):
    def weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather of a city."""
        return f"Sunny in {city}."

    assert Agent(model, output_type=weather).run_sync(GREETING).output in ("Sunny in Paris.", "Sunny in Rome.")


def test_tools_that_the_model_calls_by_itself(caller_url):
    agent = Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=f"{caller_url}/v1", api_key=KEY)))
    called = []

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather of a city."""
        called.append(city)
        return "Sunny."

    assert agent.run_sync(GREETING).output == "It is sunny in Paris."
    assert called == ["Paris"]
