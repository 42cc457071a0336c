"""What llguidance complains of, in sentences of our own: its words may hold anything, also of the client's."""

import logging
import re

from aphrodite.domain.errors import FormError
from aphrodite.domain.prompting.json_schema import parse_object, places_of
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

_log = logging.getLogger(__name__)

_LINE = re.compile(r"^(?:at )?(?P<line>\d+)\((?P<column>\d+)\)")
_IN_REGEX = re.compile(r"regex parse error:\n {4}(?P<text>.*)\n {4}(?P<blanks> *)\^+\nerror: (?P<what>.*)")
_QUOTATION = re.compile(r"\n +\d+ \| |\n<state>")  # from here on it shows the grammar, which may hold any words
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')

_MAX_PLACES = 3  # that are named

# The first whose words occur decides.
_REASONS = (
    ("oneOf", "it has a oneOf whose options may not exclude each other; tell them apart by a const, or use anyOf"),
    ("nsatisfiable", "no answer could match it"),
    ("NoExtension", "no answer could match it"),
    ("circular reference", "a reference leads back to itself beside other keywords"),
    ("lookaround", "it looks ahead or behind, which is not supported"),
    ("look-around", "it looks ahead or behind, which is not supported"),
    ("backreference", "it refers back to a group, which is not supported"),
    ("too complex", "it takes too much time to follow"),
    ("too big", "it is too large"),
    ("too large", "it is too large"),
    ("too deeply nested", "it is nested too deeply"),
    ("items; max is", "it can be read in too many ways at once"),
    ("too many expressions", "it takes too much time or memory to follow"),
    ("limit", "it takes too much time or memory to follow"),
    ("fuel", "it takes too much time or memory to follow"),
    ("Unable to determine if regex is empty", "its patterns take too much time to be matched together"),
)


def form_error(form: StructuredOutputs, complaint: str) -> FormError:
    """Says where, as far as the complaint does."""
    _log.debug("A %s was refused: %s", form.kind, complaint)
    own = _QUOTATION.split(complaint, maxsplit=1)[0]
    in_regex = _IN_REGEX.search(own)
    words = in_regex["what"] if in_regex else _QUOTED.sub("", own)
    reason = next((reason for part, reason in _REASONS if part in words), "it is not valid, or not supported")
    place = _place(form, words, in_regex, own)
    return FormError(f"structured_outputs.{form.kind} cannot be followed{place}: {reason}.")


def _place(form: StructuredOutputs, words: str, in_regex: re.Match[str] | None, complaint: str) -> str:
    if form.kind == "grammar":
        match = _LINE.search(complaint)
        return f" at line {match['line']}, column {match['column']}" if match else ""
    if form.kind == "regex":
        return f" at character {len(in_regex['blanks'])}" if in_regex else ""
    if form.kind == "json":
        schema = parse_object(str(form.json), "structured_outputs.json")
        if in_regex:
            places = [at for key in ("pattern", "patternProperties") for at in places_of(schema, key, in_regex["text"])]
            return f" at character {len(in_regex['blanks'])} of {places[0]}" if places else ""
        if "oneOf" in words:
            return " at " + " or ".join(places_of(schema, "oneOf")[:_MAX_PLACES])
    return ""
