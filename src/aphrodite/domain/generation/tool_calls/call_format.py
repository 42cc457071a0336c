"""What every family's way to write tool calls has in common."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from aphrodite.domain.prompting.tools import Tool


@dataclass(frozen=True, slots=True)
class Call:
    """One call as a model has written it."""

    name: str
    arguments: str  # a JSON object
    id: str | None = None  # where the model gives one


class End(Protocol):
    """Looks for the end of a stretch of text that holds calls."""

    def find(self, stretch: str) -> int | None:
        """Characters of the stretch, None while it goes on. `stretch` is longer each time, and begins the same."""


class CallFormat(Protocol):
    """How a family of models writes calls among what it says. Stateless.

    I'll look.  <tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>
                |opening                                                              end|
                |----------------------------- stretch ------------------------------|
    """

    # What stands in a stretch before the arguments, an object in JSON, and names the function: from there on it is sure
    # to be a call, and arguments are told as they come. None where they are no JSON.
    head: re.Pattern[str] | None = None
    openings: tuple[str, ...]  # with each of these a stretch begins, wherever it stands
    openings_at_start: tuple[str, ...]  # with these it does at the beginning of the text, and behind another stretch
    separators: str  # characters that stand between two stretches, besides blanks
    markup: tuple[str, ...]  # all that may be a special token
    id_chars: int | None  # length of a call's id, where the family's templates insist on one

    def tag(self, name: str) -> tuple[str, str] | None:  # noqa: ARG002
        """What the family writes before and behind the arguments, in JSON, of a function; None where they are no JSON.

        For grammars; so nothing of it may be a special token.
        """
        return None

    def end(self, opening: str) -> End:
        """Looks for the end of a stretch with this opening."""

    def rest(self) -> End | None:
        """Looks for the end of what stands behind arguments that `head` stood before; None for nothing."""
        return None

    def read(self, stretch: str, tools: Mapping[str, Tool]) -> list[Call]:
        """The calls of a whole stretch, opening and all; an end that was not reached may be missing.

        Raises ValueError where it holds anything else.
        """
