"""What is asked of every client, and what comes back."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

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
    """The weather in a city."""

    model_config = ConfigDict(extra="forbid")  # no free text and no other keys: a model so small would never end them

    city: Literal["Paris", "Rome"]
    is_sunny: bool


def is_answer(text: str | None) -> bool:
    """Whether somebody who saw the picture said that."""
    return text is not None and text.strip() == ANSWER
