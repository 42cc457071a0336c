"""When a sequence ends: end-of-sequence and stop tokens, lengths, and strings in its text."""

from collections import deque
from collections.abc import Collection, Iterator
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
    """The stop strings of a request, which the texts of all its completions are searched for.

    One automaton (Aho and Corasick, 1975) for all strings, so that a character costs the same however many there are.
    A state stands for the longest beginning of a stop string that the text ends with; state 0 for none.
    """

    def __init__(self, stop: Collection[str]) -> None:
        self._next: list[dict[str, int]] = [{}]  # of each state, where a character leads
        self._lengths = [0]  # characters that a state stands for
        self._matches: list[str | None] = [None]  # the longest stop string that a state's characters end with
        for string in stop:
            self._insert(string)
        self._shorter = [0] * len(self._next)  # of each state, that of its longest proper end
        for state in self._breadth_first():
            for character, following in self._next[state].items():
                shorter = self.advance(self._shorter[state], character) if state else 0
                self._shorter[following] = shorter
                self._matches[following] = self._matches[following] or self._matches[shorter]

    def __bool__(self) -> bool:
        return len(self._next) > 1

    def advance(self, state: int, character: str) -> int:
        """The state after one more character."""
        while state and character not in self._next[state]:
            state = self._shorter[state]
        return self._next[state].get(character, 0)

    def match(self, state: int) -> str | None:
        """The longest stop string that is complete."""
        return self._matches[state]

    def num_open(self, state: int) -> int:
        """Characters at the text's end that may become a stop string, or one that is longer than what they are."""
        while state and not self._next[state]:
            state = self._shorter[state]
        return self._lengths[state]

    def _insert(self, string: str) -> None:
        state = 0
        for character in string:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._lengths.append(self._lengths[state] + 1)
                self._matches.append(None)
            state = self._next[state][character]
        self._matches[state] = string

    def _breadth_first(self) -> Iterator[int]:
        states = deque([0])
        while states:
            yield states[0]
            states.extend(self._next[states.popleft()].values())


class StopSearch:
    """Looks for stop strings in one text that comes in pieces; how it was cut makes no difference.

    The match that is complete first ends the text; of those that are complete at the same character the longest does.
    Text is held back while it could still turn out to be the beginning of a stop string:

        shown            held        next piece
        |----------------|-----------|------------>
                          the longest beginning of a stop string that the text ends with
    """

    def __init__(self, strings: StopStrings, include_stop_str_in_output: bool = False) -> None:
        self._strings = strings
        self._state = 0
        self._include = include_stop_str_in_output
        self._held = ""

    def push(self, piece: str, min_tokens_reached: bool = True) -> StopMatch:
        """Append `piece`. After a match nothing more may be pushed.

        A stop string that ends in a piece pushed with `min_tokens_reached=False` is ordinary text.
        """
        if not self._strings:
            return StopMatch(piece)
        text, self._held = self._held + piece, ""
        for end, character in enumerate(piece, start=len(text) - len(piece) + 1):
            self._state = self._strings.advance(self._state, character)
            complete = self._strings.match(self._state) if min_tokens_reached else None
            if complete is not None:
                return StopMatch(text[: end if self._include else end - len(complete)], complete)
        # With the stop string in the output there is nothing to take back.
        num_held = 0 if self._include else self._strings.num_open(self._state)
        self._held = text[len(text) - num_held :]
        return StopMatch(text[: len(text) - num_held])

    def flush(self) -> str:
        """The text that was held back, once no more will come."""
        held, self._held = self._held, ""
        return held
