"""Instructor, with the mode that it takes by itself."""

import instructor
import openai
from tests.clients.answers import GREETING, MODEL, Weather


def test_structured():
    client = instructor.from_openai(openai.OpenAI(max_retries=0))
    fields = {"model": MODEL, "messages": [{"role": "user", "content": GREETING}], "max_retries": 0}
    assert isinstance(client.chat.completions.create(response_model=Weather, **fields), Weather)
    pieces = [*client.chat.completions.create_partial(response_model=Weather, **fields)]
    Weather.model_validate(pieces[-1].model_dump())
