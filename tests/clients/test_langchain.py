"""LangChain's `langchain-openai`."""

from typing import Literal

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from tests.clients.answers import GREETING, MODEL, QUESTION, TOO_LONG, Weather, is_answer


@pytest.fixture
def model() -> ChatOpenAI:
    return ChatOpenAI(model=MODEL, max_retries=0)


def ask(url: str) -> list:
    return [HumanMessage([{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}])]


def test_text(model):
    assert model.invoke(GREETING).text.strip()


def test_image(model, picture_url):
    assert is_answer(model.invoke(ask(picture_url)).text)


def test_stream(model, picture_url):
    chunks = [chunk.text for chunk in model.stream(ask(picture_url))]
    assert is_answer("".join(chunks))
    assert len(chunks) > 1


def test_structured(model):
    assert isinstance(model.with_structured_output(Weather).invoke(GREETING), Weather)


def test_tools(model):
    @tool
    def weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather of a city."""
        return city

    [call] = model.bind_tools([weather], tool_choice="any", parallel_tool_calls=False).invoke(GREETING).tool_calls
    assert call["name"] == "weather"
    assert weather.invoke(call).content in ("Paris", "Rome")


def test_too_long(model):
    with pytest.raises(Exception, match="maximum context length") as refused:
        model.invoke(TOO_LONG)
    assert "ContextOverflow" in type(refused.value).__name__
