"""What form an answer must have: a JSON schema, a regular expression, a choice, a grammar."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aphrodite.domain.errors import SamplingParamsError

MAX_FORM_CHARS = 1 << 18
"""Most characters of a schema, an expression, a grammar, or of all choices together."""

MAX_CHOICES = 4096
"""Most strings of one choice."""

_KINDS = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredOutputs:
    """The form of an answer, exactly one of these; every completion that ends by itself has it.

    Equal ones hash alike. Raises SamplingParamsError, which names the field, when built; whether a form can be compiled
    is found out later.
    """

    json: Mapping[str, Any] | str | None = None  # a JSON schema, as an object or as its text; kept as text
    json_object: bool = False  # any JSON object
    regex: str | None = None  # that the whole answer matches
    choice: tuple[str, ...] | list[str] | None = None  # one of these, word for word
    grammar: str | None = None  # Lark's notation, or GBNF
    structural_tag: Mapping[str, Any] | str | None = None  # free text until a trigger, then a tag with JSON in it:
    # {"structures": [{"begin": ..., "schema": ..., "end": ...}, ...], "triggers": [...]}; kept as text

    def __post_init__(self) -> None:
        if not isinstance(self.json_object, bool):
            raise SamplingParamsError(
                f"structured_outputs.json_object must be True or False, got {type(self.json_object).__name__}."
            )
        given = [name for name in _KINDS if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            found = "none" if not given else " and ".join(given)
            raise SamplingParamsError(f"structured_outputs must have exactly one of {', '.join(_KINDS)}, got {found}.")
        [kind] = given
        if kind in ("json", "structural_tag"):
            object.__setattr__(self, kind, _object_text(kind, getattr(self, kind)))
        elif kind == "choice":
            object.__setattr__(self, kind, _choices(self.choice))
        elif kind != "json_object":
            _check_text(kind, getattr(self, kind))

    @property
    def kind(self) -> str:
        """The name of the field that is given."""
        return next(name for name in _KINDS if getattr(self, name) not in (None, False))

    @property
    def num_chars(self) -> int:
        """How much text there is to it."""
        value = getattr(self, self.kind)
        return len(value) if isinstance(value, str) else sum(map(len, self.choice or ()))


@dataclass(frozen=True, slots=True)
class CheckedForm:
    """A form that can be compiled."""

    form: StructuredOutputs
    grammar: str  # in the compiler's notation
    num_bytes: int  # the most that it takes compiled and followed; its matchers share that


def _object_text(kind: str, value: object) -> str:
    """A JSON object's text, from itself or from the text."""
    if isinstance(value, Mapping):
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise SamplingParamsError(
                f"structured_outputs.{kind} holds what JSON cannot say, or is nested too deeply."
            ) from error
        _check_text(kind, text)
        return text
    if not isinstance(value, str):
        raise SamplingParamsError(
            f"structured_outputs.{kind} must be an object or the JSON text of one, got {type(value).__name__}."
        )
    _check_text(kind, value)
    return value


def _choices(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) and item for item in value):
        raise SamplingParamsError("structured_outputs.choice must be a list of strings, none of them empty.")
    if len(value) > MAX_CHOICES:
        raise SamplingParamsError(
            f"structured_outputs.choice must hold at most {MAX_CHOICES} strings, got {len(value)}."
        )
    for item in value:
        _check_text("choice", item)
    num_chars = sum(map(len, value))
    if num_chars > MAX_FORM_CHARS:
        raise SamplingParamsError(
            f"structured_outputs.choice must have at most {MAX_FORM_CHARS} characters in all, got {num_chars}."
        )
    return tuple(value)


def _check_text(kind: str, value: object) -> None:
    name = f"structured_outputs.{kind}"
    if not isinstance(value, str) or not value:
        raise SamplingParamsError(f"{name} must be a string that is not empty.")
    if len(value) > MAX_FORM_CHARS:
        raise SamplingParamsError(f"{name} must have at most {MAX_FORM_CHARS} characters, got {len(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SamplingParamsError(f"{name} holds half of a surrogate pair, which is not valid Unicode text.") from error
