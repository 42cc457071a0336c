"""What an answer may not say, or not say again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from aphrodite.domain.errors import SamplingParamsError
from aphrodite.domain.prompting.parameter import Parameter, check_int, shown
from aphrodite.domain.prompting.samplers import Samplers

MAX_BAD_WORDS = 256
"""Most bad words, or sequence breakers, of one request."""

MAX_WORD_CHARS = 8192
"""Most characters of all of them."""

T = TypeVar("T", bound="Repetition")
Words = tuple[str | tuple[int, ...], ...] | list[str] | list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition(Samplers):
    """The part of SamplingParams that looks at the tokens before: prompt and answer."""

    no_repeat_ngram_size: Annotated[
        int,
        Parameter(
            "no so many tokens in a row come twice; 0: they may",
            low=0,
            high=64,
            source="arXiv 1705.04304",
            kobold="no_repeat_ngram_size",
        ),
    ] = 0
    dry_multiplier: Annotated[
        float,
        Parameter(
            "DRY: what is taken from the logit of a token that would go on with a repetition; 0: nothing",
            low=0,
            source="text-generation-webui 5677",
            kobold="dry_multiplier",
        ),
    ] = 0.0
    dry_base: Annotated[
        float,
        Parameter("times this for each token that the repetition is longer", low=1, high=100, kobold="dry_base"),
    ] = 1.75
    dry_allowed_length: Annotated[
        int, Parameter("tokens that may be repeated at no cost below it", low=1, kobold="dry_allowed_length")
    ] = 2
    dry_range: Annotated[int, Parameter("the last tokens that are looked at; 0: all", low=0)] = 0
    dry_sequence_breakers: tuple[str | int, ...] | list[str] | list[int] = ("\n", ":", '"', "*")  # end a repetition
    custom_token_bans: tuple[int, ...] | list[int] = ()  # token ids that are never drawn
    bad_words: Words = ()  # that are never said, as text or as token ids

    def check_repetition(self) -> None:
        """Raises SamplingParamsError."""
        object.__setattr__(self, "custom_token_bans", token_ids("custom_token_bans", self.custom_token_bans))
        object.__setattr__(self, "bad_words", tuple(_checked("bad_words", self.bad_words, _word)))
        breakers = tuple(_checked("dry_sequence_breakers", self.dry_sequence_breakers, _breaker))
        object.__setattr__(self, "dry_sequence_breakers", breakers)

    @property
    def banned_token_ids(self) -> tuple[int, ...]:
        """What is never drawn, wherever it would stand."""
        alone = (word[0] for word in self.bad_words if not isinstance(word, str) and len(word) == 1)
        return (*self.custom_token_bans, *alone)

    @property
    def has_history(self) -> bool:
        """Whether what may be drawn depends on the tokens before."""
        return (
            self.dry_multiplier > 0
            or self.no_repeat_ngram_size > 0
            or any(isinstance(word, str) or len(word) > 1 for word in self.bad_words)
        )

    @property
    def has_bans(self) -> bool:
        """Whether any token may not be drawn."""
        return bool(self.custom_token_bans or self.bad_words) or self.no_repeat_ngram_size > 0


def with_token_ids(sampling: T, encode: Callable[[str], list[int]]) -> T:
    """The same with words as the tokens that a text has for them; `encode` adds no special tokens."""
    changes: dict[str, Any] = {}
    if any(isinstance(word, str) for word in sampling.bad_words):
        spelled = (ids for word in sampling.bad_words for ids in _spellings(word, encode))
        changes["bad_words"] = tuple(dict.fromkeys(spelled))
    if sampling.dry_multiplier > 0 and any(isinstance(one, str) for one in sampling.dry_sequence_breakers):
        ends = (encode(f"a{one}")[-1] if isinstance(one, str) else one for one in sampling.dry_sequence_breakers)
        changes["dry_sequence_breakers"] = tuple(dict.fromkeys(ends))
    return replace(sampling, **changes) if changes else sampling


def token_ids(name: str, value: object) -> tuple[int, ...]:
    """Raises SamplingParamsError for what is no collection of token ids."""
    if not isinstance(value, list | tuple | set | frozenset):
        raise SamplingParamsError(f"{name} must be a list of token ids, got {shown(value)}.")
    for token_id in value:
        check_int(f"a token id in {name}", token_id, low=0)
    return tuple(value)


def _spellings(word: Any, encode: Callable[[str], list[int]]) -> list[tuple[int, ...]]:
    """A word's tokens where it begins a text, and behind a blank."""
    if not isinstance(word, str):
        return [tuple(word)]
    return [tuple(ids) for ids in (encode(word), encode(" " + word.lstrip())) if ids]


def _checked(name: str, value: object, check: Callable[[str, object], Any]) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise SamplingParamsError(f"{name} must be a list, got {shown(value)}.")
    if len(value) > MAX_BAD_WORDS:
        raise SamplingParamsError(f"{name} must hold at most {MAX_BAD_WORDS} entries, got {len(value)}.")
    words = [check(name, word) for word in value]
    num_chars = sum(len(word) for word in words if not isinstance(word, int))
    if num_chars > MAX_WORD_CHARS:
        raise SamplingParamsError(f"{name} must hold at most {MAX_WORD_CHARS} characters in all, got {num_chars}.")
    return words


def _word(name: str, word: object) -> object:
    if isinstance(word, str) and word.strip():
        return word
    if isinstance(word, list | tuple) and word:
        return token_ids(name, word)
    raise SamplingParamsError(f"{name} must hold words or lists of token ids, none of them empty, got {shown(word)}.")


def _breaker(name: str, breaker: object) -> object:
    if not isinstance(breaker, str):
        check_int(f"a token id in {name}", breaker, low=0)
    elif not breaker:
        raise SamplingParamsError(f"{name} must hold no empty text.")
    return breaker
