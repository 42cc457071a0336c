"""Outlines over an OpenAI-compatible server."""

import base64
import io

import openai
import outlines
import pytest
from PIL import Image
from tests.clients.answers import GREETING, MODEL, QUESTION, Weather, is_answer


@pytest.fixture
def model():
    return outlines.from_openai(openai.OpenAI(max_retries=0), MODEL)


def test_text(model):
    assert model(GREETING).strip()


def test_image(model, picture):
    image = outlines.inputs.Image(Image.open(io.BytesIO(base64.b64decode(picture))))
    assert is_answer(model([QUESTION, image]))


def test_stream(model):
    assert "".join(model.stream(GREETING)).strip()


def test_structured(model):
    Weather.model_validate_json(model(GREETING, Weather, max_tokens=200))
