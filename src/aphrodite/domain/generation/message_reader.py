"""One message's text, as it comes, to its pieces: what the model thinks, what it says, and the tools it calls."""

from aphrodite.domain.generation.message import CallStart, Content, Piece, Reasoning
from aphrodite.domain.generation.reasoning import ReasoningReader
from aphrodite.domain.generation.tool_calls.reader import CallReader


class MessageReader:
    """Thoughts first, then calls; without a reader of either the text is content. How it was cut changes nothing."""

    def __init__(self, reasoning: ReasoningReader | None = None, calls: CallReader | None = None) -> None:
        self.has_calls = False  # by now
        self.num_reasoning_tokens = None if reasoning is None else 0  # by now, those of the tags among them
        self._num_tokens = 0
        self._reasoning = reasoning
        self._calls = calls

    def push(self, text: str, num_tokens: int = 0) -> list[Piece]:
        """Append text, and count its tokens; the pieces that are certain now."""
        if self._reasoning is None:
            return self._with_calls([Content(text)]) if text else []
        was_inside = self._reasoning.is_inside
        thoughts = self._reasoning.push(text)
        self._num_tokens += num_tokens
        if was_inside or self._reasoning.is_inside or any(isinstance(piece, Reasoning) for piece in thoughts):
            self.num_reasoning_tokens = self._num_tokens
        return self._with_calls(thoughts)

    def finish(self) -> list[Piece]:
        """What is left once no more text comes."""
        pieces = [] if self._reasoning is None else self._with_calls(self._reasoning.finish())
        return pieces + self._noted([] if self._calls is None else self._calls.finish())

    def _with_calls(self, pieces: list[Piece]) -> list[Piece]:
        if self._calls is None:
            return pieces
        found: list[Piece] = []
        for piece in pieces:
            found += self._calls.push(piece.text) if isinstance(piece, Content) else [piece]
        return self._noted(found)

    def _noted(self, pieces: list[Piece]) -> list[Piece]:
        self.has_calls = self.has_calls or any(isinstance(piece, CallStart) for piece in pieces)
        return pieces
