"""What is asked of every client, and what comes back."""

from typing import Any, Literal

from pydantic import BaseModel

MODEL = "demo"
SHAPES = "triangles"  # are in the picture
QUESTION = "What is the content of this image?"
ANSWER = "Two red triangles."
GREETING = "Hello"
TOO_LONG = "What is the content of this image? " * 2000

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


class Weather(BaseModel):
    """The weather in a city."""  # no free text: the model would never end it

    city: Literal["Paris", "Rome"]
    is_sunny: bool


def is_answer(text: str | None) -> bool:
    """Whether somebody who saw the picture said that."""
    return text is not None and text.strip() == ANSWER
