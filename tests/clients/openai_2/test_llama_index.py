"""LlamaIndex's `OpenAILike`."""

from typing import Literal

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from tests.clients.answers import GREETING, MODEL, QUESTION, Weather, is_answer
from tests.clients.conftest import KEY


@pytest.fixture
def model(url: str) -> OpenAILike:
    return OpenAILike(
        model=MODEL,
        api_base=f"{url}/v1",
        api_key=KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


def ask(url: str) -> list:
    return [ChatMessage(role="user", blocks=[TextBlock(text=QUESTION), ImageBlock(url=url)])]


def test_text(model):
    assert model.complete(GREETING).text.strip()


def test_image(model, picture_url):
    assert is_answer(model.chat(ask(picture_url)).message.content)


def test_stream(model, picture_url):
    assert is_answer("".join(chunk.delta or "" for chunk in model.stream_chat(ask(picture_url))))


def test_structured(model):
    answer = model.as_structured_llm(Weather).complete(GREETING)
    assert isinstance(answer.raw, Weather)


def test_tools(model):
    def weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather of a city."""
        return city

    tool = FunctionTool.from_defaults(weather)
    answer = model.chat_with_tools([tool], user_msg=GREETING, tool_required=True)
    [call] = model.get_tool_calls_from_response(answer)
    assert call.tool_name == "weather"
    assert tool(**call.tool_kwargs).content in ("Paris", "Rome")
