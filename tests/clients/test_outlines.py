"""Outlines over an OpenAI-compatible server."""

import openai
import outlines
import pytest
from tests.clients.answers import GREETING, MODEL, Weather


@pytest.fixture
def model():
    return outlines.from_openai(openai.OpenAI(max_retries=0), MODEL)


def test_text(model):
    assert model(GREETING).strip()


def test_stream(model):
    assert "".join(model.stream(GREETING)).strip()


def test_structured(model):
    Weather.model_validate_json(model(GREETING, Weather, max_tokens=200))
