"""Pydantic AI."""

import base64

import pytest
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from tests.clients.answers import GREETING, MODEL, QUESTION, Weather, is_answer


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
    import asyncio

    assert is_answer(asyncio.run(_streamed(model, picture)))


def test_structured(model):
    assert isinstance(Agent(model, output_type=Weather).run_sync(GREETING).output, Weather)
