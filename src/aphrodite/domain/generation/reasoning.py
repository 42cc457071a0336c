"""What a model thinks before it answers, told apart from the answer by tags.

<think>
The user wants a greeting.
</think>

Hello!
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from aphrodite.domain.errors import ConfigError
from aphrodite.domain.generation.message import Content, Piece, Reasoning


@dataclass(frozen=True, slots=True)
class ReasoningTags:
    """What stands around the thoughts; line breaks next to a tag belong to neither side."""

    start: str
    end: str
    is_implied: bool = False  # a message begins with thoughts, also without the first tag

    def are_open(self, prompt: str, *, is_continued: bool) -> bool:
        """Whether an answer to this prompt begins among thoughts. One that is continued may have begun them itself."""
        if is_continued and prompt.rfind(self.start) != prompt.rfind(self.end):
            return prompt.rfind(self.start) > prompt.rfind(self.end)
        told = prompt.rstrip()
        return told.endswith(self.start.rstrip()) or (self.is_implied and not told.endswith(self.end))


_THINK = ReasoningTags("<think>", "</think>")

REASONING_TAGS: Mapping[str, ReasoningTags] = MappingProxyType(
    {
        "qwen3": _THINK,
        "deepseek_r1": ReasoningTags("<think>", "</think>", is_implied=True),
        "glm": _THINK,
        "gemma": ReasoningTags("<|channel>thought\n", "<channel|>"),
        "mistral": ReasoningTags("[THINK]", "[/THINK]"),
    }
)


def find_reasoning_tags(name: str | None, template: str) -> ReasoningTags | None:
    """The tags of that name, or for None those that a chat template's text shows; "none" stands for no tags.

    Raises ConfigError for an unknown name.
    """
    if name is None:
        if "<|channel>thought" in template:
            name = "gemma"
        elif "[THINK]" in template:
            name = "mistral"
        elif "</think>" in template:
            name = "deepseek_r1" if "<｜Assistant｜>" in template else "qwen3"  # noqa: RUF001 - DeepSeek's own bars
        else:
            name = "none"
    if name != "none" and name not in REASONING_TAGS:
        raise ConfigError(f"--reasoning-parser must be one of {', '.join(REASONING_TAGS)}, or none; got {name!r}.")
    return REASONING_TAGS.get(name)


class ReasoningReader:
    """Finds the thoughts in one message's text, however it was cut. They stand at its beginning."""

    def __init__(self, tags: ReasoningTags, *, is_open: bool) -> None:
        """`is_open`: the text begins among thoughts, whose first tag it may repeat."""
        self._tags = tags
        self._place: Literal["before", "open", "inside", "behind", "answer"] = "open" if is_open else "before"
        self._has_begun = False  # a thought was told
        self._text = ""  # not told yet

    @property
    def is_inside(self) -> bool:
        """Whether the text stands among thoughts by now."""
        return self._place in ("open", "inside")

    def push(self, text: str) -> list[Piece]:
        """Append text; the pieces that are certain now."""
        self._text += text
        pieces: list[Piece] = []
        if self._place in ("before", "open"):
            self._enter()
        if self._place == "inside":
            pieces += self._think()
        if self._place == "behind":
            self._text = self._text.lstrip("\n")
        if self._place in ("behind", "answer") and self._text:
            pieces.append(Content(self._text))
            self._text, self._place = "", "answer"
        return pieces

    def finish(self) -> list[Piece]:
        """What is left once no more text comes: blanks, or a part of a tag."""
        rest, self._text = self._text, ""
        if self._place == "before":
            return [Content(rest)] if rest else []
        thought = (rest if self._has_begun else rest.lstrip("\n")).rstrip("\n")
        return [Reasoning(thought)] if thought else []

    def _enter(self) -> None:
        """Go inside with the first tag; whatever else the text begins with shows where it stands."""
        told = self._text.lstrip()
        if told.startswith(self._tags.start):
            self._text, self._place = told.removeprefix(self._tags.start), "inside"
        elif not self._tags.start.startswith(told):
            self._place = "inside" if self._place == "open" else "answer"

    def _think(self) -> list[Piece]:
        text = self._text if self._has_begun else self._text.lstrip("\n")
        end = text.find(self._tags.end)
        if end >= 0:
            thought, self._text, self._place = text[:end].rstrip("\n"), text[end + len(self._tags.end) :], "behind"
        else:
            thought = text[: len(text) - _num_open(text, self._tags.end)].rstrip("\n")
            self._text = text[len(thought) :]
        self._has_begun = self._has_begun or bool(thought)
        return [Reasoning(thought)] if thought else []


def _num_open(text: str, tag: str) -> int:
    """Characters at the end of a text that may be the beginning of a tag."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)
