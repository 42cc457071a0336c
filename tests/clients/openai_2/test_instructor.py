"""Instructor, with the mode that it takes by itself: tools."""

import instructor
import openai
import pytest
from instructor import Image
from tests.clients.answers import GREETING, MODEL, QUESTION, Weather, is_answer


@pytest.fixture
def create():
    client = instructor.from_openai(openai.OpenAI(max_retries=0))

    def create(content=GREETING, create=client.chat.completions.create, **fields):
        messages = [{"role": "user", "content": content}]
        return create(model=MODEL, messages=messages, max_retries=0, **fields)

    create.partial = client.chat.completions.create_partial
    return create


def test_text(create):
    assert create(response_model=None).choices[0].message.content.strip()


def test_image(create, picture_url):
    answer = create([QUESTION, Image.from_base64(picture_url)], response_model=None)
    assert is_answer(answer.choices[0].message.content)


def test_stream(create):
    pieces = [*create(create=create.partial, response_model=Weather)]
    Weather.model_validate(pieces[-1].model_dump())


def test_structured(create):
    assert isinstance(create(response_model=Weather), Weather)


def test_tools(create):
    answer = create(response_model=Weather)
    [call] = answer._raw_response.choices[0].message.tool_calls
    assert call.function.name == "Weather"
