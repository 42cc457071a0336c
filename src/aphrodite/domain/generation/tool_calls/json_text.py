"""The text of a JSON object while it is written."""

import json


class ObjectText:
    """Finds the end of an object, and escapes what models leave bare in its strings: line breaks and the like."""

    def __init__(self) -> None:
        self.is_whole = False
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False  # the next character

    def push(self, text: str) -> tuple[str, str]:
        """Append text: what of it belongs to the object, as it shall be told, and what stands behind."""
        told = []
        for index, character in enumerate(text):
            told.append(self._next(character))
            if self.is_whole:
                return "".join(told), text[index + 1 :]
        return "".join(told), ""

    def _next(self, character: str) -> str:
        if self._is_escaped:
            self._is_escaped = False
        elif self._is_in_string:
            self._is_escaped = character == "\\"
            self._is_in_string = character != '"'
            if character < " ":
                return json.dumps(character)[1:-1]
        elif character == '"':
            self._is_in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            self.is_whole = self._depth == 0
        return character
