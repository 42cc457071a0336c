"""When a sequence ends: end-of-sequence and stop tokens, lengths, and strings in its text."""

from collections.abc import Collection
from dataclasses import dataclass

from aphrodite.domain.generation.delta import FinishReason
from aphrodite.domain.prompting.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a sequence ends; `stop_reason` is the stop token or stop string, None for the model's own end."""

    finish_reason: FinishReason
    stop_reason: int | str | None = None


class StopChecker:
    """Judges one sequence, token by token. Holds no state of the sequence."""

    def __init__(
        self, params: SamplingParams, eos_token_ids: Collection[int], max_model_len: int, num_prompt_tokens: int
    ) -> None:
        self._eos_token_ids = frozenset() if params.ignore_eos else frozenset(eos_token_ids)
        self._stop_token_ids = frozenset(params.stop_token_ids)
        self._min_tokens = params.min_tokens
        room = max(max_model_len - num_prompt_tokens, 0)
        self._max_tokens = room if params.max_tokens is None else min(params.max_tokens, room)

    def check_token(self, token_id: int, num_output_tokens: int) -> Verdict | None:
        """Whether the sequence ends with this token, the last of `num_output_tokens`; None while it goes on.

        A token that ends it for two reasons ends it for the first of: end of sequence, stop token, length.
        """
        if num_output_tokens >= self._min_tokens:
            if token_id in self._eos_token_ids:
                return Verdict("stop")
            if token_id in self._stop_token_ids:
                return Verdict("stop", token_id)
        if num_output_tokens >= self._max_tokens:
            return Verdict("length")
        return None


@dataclass(frozen=True, slots=True)
class StopMatch:
    """What may be shown after one more piece of text."""

    text: str  # to be appended to what was shown before
    matched: str | None = None  # the stop string that ends the sequence


class StopStrings:
    """Looks for stop strings in text that comes in pieces; how it was cut makes no difference.

    The match that is complete first ends the text; of those that are complete at the same character the longest does.
    Text is held back while it could still turn out to be the beginning of a stop string:

        shown            held        next piece
        |----------------|-----------|------------>
                          the longest beginning of a stop string that the text ends with
    """

    def __init__(self, stop: Collection[str], include_stop_str_in_output: bool = False) -> None:
        self._progress = [_Progress(string) for string in sorted(stop, key=len, reverse=True)]
        self._include = include_stop_str_in_output
        self._held = ""

    def push(self, piece: str, min_tokens_reached: bool = True) -> StopMatch:
        """Append `piece`. After a match nothing more may be pushed.

        A stop string that ends in a piece pushed with `min_tokens_reached=False` is ordinary text.
        """
        if not self._progress:
            return StopMatch(piece)
        text, self._held = self._held + piece, ""
        for end, character in enumerate(piece, start=len(text) - len(piece) + 1):
            complete = [progress.stop for progress in self._progress if progress.advance(character)]
            if complete and min_tokens_reached:
                longest = complete[0]
                return StopMatch(text[: end if self._include else end - len(longest)], longest)
        # With the stop string in the output there is nothing to take back.
        num_held = 0 if self._include else max(progress.length for progress in self._progress)
        self._held = text[len(text) - num_held :]
        return StopMatch(text[: len(text) - num_held])

    def flush(self) -> str:
        """The text that was held back, once no more will come."""
        held, self._held = self._held, ""
        return held


class _Progress:
    """How much of one stop string the text ends with, kept up by the Knuth-Morris-Pratt automaton."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.length = 0  # characters of `stop` that the text ends with
        # borders[n]: the longest proper beginning of stop[:n] that is its end as well
        self._borders = [0, 0]
        for character in stop[1:]:
            self._borders.append(self._longer(self._borders[-1], character))

    def advance(self, character: str) -> bool:
        """Whether `stop` is complete with this character."""
        self.length = self._longer(self.length, character)
        if self.length < len(self.stop):
            return False
        self.length = self._borders[self.length]
        return True

    def _longer(self, length: int, character: str) -> int:
        while length and self.stop[length] != character:
            length = self._borders[length]
        return length + (self.stop[length] == character)
