"""Guidance over its OpenAI model, and over its vLLM model, which has the server keep to a grammar."""

import base64
from typing import Literal

import guidance
import pytest
from guidance import assistant, gen, image, select, user
from guidance.models import OpenAI
from guidance.models.experimental import VLLMModel
from tests.clients.answers import GREETING, MODEL, QUESTION, Weather, is_answer
from tests.clients.conftest import KEY, NAME_OF_SEEING


@pytest.fixture
def model(url):
    return OpenAI(MODEL, api_key=KEY, base_url=f"{url}/v1", max_retries=0, echo=False)


def answered(model, answer, *question):
    with user():
        for part in question:
            model += part
    with assistant():
        model += answer
    return model


def test_text(model):
    assert answered(model, gen("answer", max_tokens=20), GREETING)["answer"].strip()


def test_image(url, picture):
    model = OpenAI(NAME_OF_SEEING, api_key=KEY, base_url=f"{url}/v1", max_retries=0, echo=False)
    assert is_answer(
        answered(model, gen("answer", max_tokens=20), image(base64.b64decode(picture)), QUESTION)["answer"]
    )


def test_stream(model):
    @guidance.guidance
    def conversation(model):  # roles are opened in the thread that streams
        return answered(model, gen("answer", max_tokens=20), GREETING)

    states = [*(model.stream() + conversation())]
    assert len(states) > 2
    assert states[-1]["answer"].strip()


def test_structured(url, model):
    answer = answered(model, guidance.json("weather", schema=Weather), GREETING)["weather"]
    Weather.model_validate_json(answer)
    model = VLLMModel(MODEL, api_key=KEY, base_url=f"{url}/v1", echo=False)
    assert answered(model, select(["Paris", "Rome"], name="city"), GREETING)["city"] in ("Paris", "Rome")


def test_tools(model):
    called = []

    def weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather of a city."""
        called.append(city)
        return "Sunny."

    answered(model, gen(tools=[weather], tool_choice="required"), GREETING)
    assert called in (["Paris"], ["Rome"])
