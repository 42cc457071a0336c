"""A tool call's arguments, as both kinds of chat templates take them."""

import json
from collections.abc import Mapping
from typing import Any


class JsonObject(dict[str, Any]):
    """To a template that takes a mapping, a mapping; to one that prints it, or joins it to text, its JSON.

    OpenAI's API has a tool call's arguments as a JSON string, which some templates print as it is; most want the object
    and its fields.
    """

    def __init__(self, fields: Mapping[str, Any], text: str | None = None) -> None:
        super().__init__(fields)
        self._text = json.dumps(fields, ensure_ascii=False) if text is None else text

    @classmethod
    def parse(cls, text: str) -> "JsonObject | str":
        """The object that `text` holds, an empty one for no text; `text` itself where it holds none."""
        try:
            value = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError):
            return text
        return cls(value, text) if isinstance(value, dict) else text

    def __str__(self) -> str:
        return self._text

    def __add__(self, other: object) -> str:
        return self._text + other if isinstance(other, str) else NotImplemented

    def __radd__(self, other: object) -> str:
        return other + self._text if isinstance(other, str) else NotImplemented
